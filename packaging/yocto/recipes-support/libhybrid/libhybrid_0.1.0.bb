SUMMARY = "Small language model on the device, cloud model for the tokens it is unsure of"
DESCRIPTION = "For firmware in C and C++: a static and a shared library, which scripts/package made"
SECTION = "libs"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://share/doc/libhybrid/LICENSE-MIT;md5=9dd010af620aeb3b58cdd3efd860998d \
    file://share/doc/libhybrid/LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

# Put the file into a folder of FILESPATH, such as files/ beside this recipe.
SRC_URI = "file://libhybrid-${PV}-${HYBRID_TARGET}.tar.gz"
HYBRID_TARGET = "${TARGET_ARCH}-unknown-linux-gnu"
SOVERSION = "0.1"

# Yocto 5.1 and later unpack into UNPACKDIR, earlier ones into WORKDIR.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/libhybrid-${PV}-${HYBRID_TARGET}"

COMPATIBLE_HOST = "(aarch64|x86_64).*-linux"
COMPATIBLE_HOST:libc-musl = "null"

# Nothing is compiled. The default dependencies stay, for what the shared library needs of libc and
# libgcc.
do_configure[noexec] = "1"
do_compile[noexec] = "1"

# In a sysroot the .pc files name their prefix as those of other packages do.
do_install() {
    install -d ${D}${includedir} ${D}${libdir}/pkgconfig ${D}${libdir}/cmake/hybrid
    install -m 0644 ${S}/include/hybrid.h ${S}/include/hybrid.hpp ${D}${includedir}/
    install -m 0644 ${S}/lib/libhybrid.a ${D}${libdir}/
    install -m 0755 ${S}/lib/libhybrid.so.${PV} ${D}${libdir}/
    ln -s libhybrid.so.${PV} ${D}${libdir}/libhybrid.so.${SOVERSION}
    ln -s libhybrid.so.${SOVERSION} ${D}${libdir}/libhybrid.so
    install -m 0644 ${S}/lib/pkgconfig/*.pc ${D}${libdir}/pkgconfig/
    install -m 0644 ${S}/lib/cmake/hybrid/*.cmake ${D}${libdir}/cmake/hybrid/
    sed -i 's,^prefix=.*,prefix=${prefix},' ${D}${libdir}/pkgconfig/*.pc
}

# The package libhybrid has libhybrid.so.0.1, and libhybrid-staticdev the archive: a program
# that links that one needs nothing on the target. The shared library is stripped, with flags of its
# own.
INSANE_SKIP:${PN} += "already-stripped ldflags"
