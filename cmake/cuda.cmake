# The CUDA module _core_cuda and its launchers. HOIRT_CUDA: AUTO builds them when nvcc is found, ON requires it.
set(HOIRT_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO (if nvcc is found), ON or OFF")
set_property(CACHE HOIRT_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT HOIRT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "HOIRT_CUDA must be AUTO, ON or OFF, not '${HOIRT_CUDA}'")
endif()
if(HOIRT_CUDA STREQUAL "OFF")
  return()
endif()
find_program(HOIRT_NVCC nvcc HINTS "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda PATH_SUFFIXES bin)
if(NOT HOIRT_NVCC)
  if(HOIRT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "HOIRT_CUDA=ON, but no nvcc is in PATH, CUDA_HOME, CUDA_PATH or /usr/local/cuda")
  endif()
  return()
endif()

# Ampere, Ada, Hopper and Blackwell, and PTX for whatever comes later; or what the environment's CUDAARCHS says.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "")
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 90-virtual)
endif()
set(CMAKE_CUDA_COMPILER "${HOIRT_NVCC}")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)

file(GLOB cuda_sources CONFIGURE_DEPENDS csrc/cuda/*.cu)
add_library(hoirt_cuda STATIC ${cuda_sources})
target_link_libraries(hoirt_cuda PUBLIC hoirt_options)
# CMake 3.25 knows no C++20 flag of new nvcc releases; the kernels' headers keep to C++17.
set_target_properties(hoirt_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON)
# --fmad=false for the reason of -ffp-contract=off: the same bits on every device.
target_compile_options(hoirt_cuda PRIVATE --fmad=false -Werror=all-warnings "-Xcompiler=-Wall,-Wextra,-Werror")

if(COMMAND pybind11_add_module)
  pybind11_add_module(_core_cuda MODULE NO_EXTRAS csrc/cuda/module.cpp csrc/cuda/raster_module.cpp
    csrc/cuda/encode_module.cpp csrc/cuda/picture_module.cpp csrc/cuda/device.cpp csrc/cuda/memory.cpp
    csrc/cuda/pool.cpp csrc/bindings/convert.cpp csrc/bindings/dlpack_exchange.cpp csrc/bindings/errors.cpp
    csrc/bindings/raster_arguments.cpp)
  target_link_libraries(_core_cuda PRIVATE hoirt_engine hoirt_cuda)
  set_target_properties(_core_cuda PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 5)
  target_include_directories(_core_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  install(TARGETS _core_cuda DESTINATION hoirt COMPONENT hoirt)
endif()
