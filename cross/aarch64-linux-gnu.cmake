# Builds C and C++ for aarch64 with Debian's and Ubuntu's cross compiler, and runs programs under
# QEMU:
#
#     cmake -S examples-c -B build --toolchain cross/aarch64-linux-gnu.cmake -DHYBRID_LIB=...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
