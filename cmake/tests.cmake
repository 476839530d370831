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
