# The C++ tests: one program, and two shared objects for the backend loader (a backend, and one that is none).
file(GLOB test_sources CONFIGURE_DEPENDS tests/cpp/test_*.cpp)
add_executable(hoirt_tests tests/cpp/main.cpp ${test_sources})
target_link_libraries(hoirt_tests PRIVATE hoirt_engine)

add_library(hoirt_test_backend MODULE tests/cpp/backend.cpp)
target_link_libraries(hoirt_test_backend PRIVATE hoirt_engine)
add_library(hoirt_test_plain MODULE engine/tensor.cpp)
target_link_libraries(hoirt_test_plain PRIVATE hoirt_options)
target_compile_definitions(hoirt_tests PRIVATE HOIRT_TEST_BACKEND="$<TARGET_FILE:hoirt_test_backend>"
                                               HOIRT_TEST_PLAIN_LIBRARY="$<TARGET_FILE:hoirt_test_plain>")
add_dependencies(hoirt_tests hoirt_test_backend hoirt_test_plain)

add_test(NAME engine COMMAND hoirt_tests)
# An allocation that is too large must return null, as without the sanitizer, so that OutOfMemory can be tested.
set_tests_properties(engine PROPERTIES ENVIRONMENT "ASAN_OPTIONS=allocator_may_return_null=1")

add_custom_target(hoirt_checks DEPENDS hoirt_tests)  # what is run after a build

# The CUDA device on a runtime without hardware: it needs CUDA's headers, and links none of its libraries.
if(TARGET hoirt_cuda)
  add_executable(hoirt_cuda_tests tests/cpp/main.cpp tests/cpp/cuda/test_device.cpp tests/cpp/cuda/idle_launches.cpp
    tests/cpp/cuda/fake_streams.cpp tests/cpp/cuda/fake_memory.cpp tests/cpp/cuda/fake_limits.cpp
    csrc/cuda/device.cpp csrc/cuda/memory.cpp csrc/cuda/pool.cpp)
  target_link_libraries(hoirt_cuda_tests PRIVATE hoirt_engine)
  target_include_directories(hoirt_cuda_tests SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  add_test(NAME cuda COMMAND hoirt_cuda_tests)
  add_dependencies(hoirt_checks hoirt_cuda_tests)
  add_subdirectory(tests/cpp/cuda/torch)
  add_dependencies(hoirt_checks hoirt_played_torch)
  if(COMMAND pybind11_add_module)
    add_subdirectory(tests/cpp/cuda/played)
    add_dependencies(hoirt_checks hoirt_played_cuda)
  endif()
endif()
