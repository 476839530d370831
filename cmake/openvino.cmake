# Builds _backend_openvino.so against the openvino wheel, which carries headers and CMake files of its own.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
          "import importlib.util as u, os; s = u.find_spec('openvino'); print(os.path.dirname(s.origin) if s else '', end='')"
  OUTPUT_VARIABLE openvino_package)
find_package(OpenVINO CONFIG COMPONENTS Runtime PATHS "${openvino_package}/cmake" NO_DEFAULT_PATH)
if(NOT OpenVINO_FOUND)
  message(FATAL_ERROR "The openvino wheel is not importable from ${Python_EXECUTABLE}. "
                      "Install the release that pyproject.toml pins, or configure with -DHOIRT_OPENVINO=OFF.")
endif()
find_package(TBB CONFIG REQUIRED PATHS "${openvino_package}/cmake" NO_DEFAULT_PATH)  # the one that OpenVINO runs on

file(GLOB openvino_sources CONFIGURE_DEPENDS csrc/openvino/*.cpp)
add_library(_backend_openvino MODULE ${openvino_sources})
target_link_libraries(_backend_openvino PRIVATE hoirt_engine openvino::runtime TBB::tbb)
# The SONAME changes with every release, so the wheel beside us in site-packages is the one that fits. The dynamic
# loader finds it without Python ever importing openvino.
set_target_properties(_backend_openvino PROPERTIES PREFIX "" INSTALL_RPATH "$ORIGIN/../openvino/libs")
install(TARGETS _backend_openvino DESTINATION hoirt COMPONENT hoirt)
