SUMMARY = "Small language model on the device, cloud model for the tokens it is unsure of"
DESCRIPTION = "A static library for firmware in C and C++, from what scripts/package of libhybrid makes."
SECTION = "libs"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://share/doc/libhybrid/LICENSE-MIT;md5=9dd010af620aeb3b58cdd3efd860998d \
    file://share/doc/libhybrid/LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

# Put the file into a folder of FILESPATH, such as files/ beside this recipe.
SRC_URI = "file://libhybrid-${PV}-${HYBRID_TARGET}.tar.gz"
HYBRID_TARGET = "${TARGET_ARCH}-unknown-linux-gnu"

# Yocto 5.1 and later unpack into UNPACKDIR, earlier ones into WORKDIR.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/libhybrid-${PV}-${HYBRID_TARGET}"

COMPATIBLE_HOST = "(aarch64|x86_64).*-linux"
COMPATIBLE_HOST:libc-musl = "null"

# Nothing is compiled.
INHIBIT_DEFAULT_DEPS = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

# In a sysroot hybrid.pc names its prefix as other packages do.
do_install() {
    install -d ${D}${includedir} ${D}${libdir}/pkgconfig ${D}${libdir}/cmake/hybrid
    install -m 0644 ${S}/include/hybrid.h ${S}/include/hybrid.hpp ${D}${includedir}/
    install -m 0644 ${S}/lib/libhybrid.a ${D}${libdir}/
    install -m 0644 ${S}/lib/pkgconfig/hybrid.pc ${D}${libdir}/pkgconfig/
    install -m 0644 ${S}/lib/cmake/hybrid/*.cmake ${D}${libdir}/cmake/hybrid/
    sed -i 's,^prefix=.*,prefix=${prefix},' ${D}${libdir}/pkgconfig/hybrid.pc
}

# There is nothing for the target: the library is linked into the programs that use it.
ALLOW_EMPTY:${PN} = "1"
RDEPENDS:${PN}-dev = ""
