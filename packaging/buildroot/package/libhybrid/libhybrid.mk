################################################################################
#
# libhybrid
#
################################################################################

LIBHYBRID_VERSION = 0.1.0
LIBHYBRID_SITE = $(call qstrip,$(BR2_PACKAGE_LIBHYBRID_SITE))
LIBHYBRID_SOURCE = libhybrid-$(LIBHYBRID_VERSION)-$(ARCH)-unknown-linux-gnu.tar.gz
LIBHYBRID_LICENSE = MIT or Apache-2.0, and those in third-party.txt
LIBHYBRID_LICENSE_FILES = \
	share/doc/libhybrid/LICENSE-MIT \
	share/doc/libhybrid/LICENSE-APACHE \
	share/doc/libhybrid/third-party.txt
LIBHYBRID_INSTALL_STAGING = YES

# In a sysroot the .pc files name their prefix as those of other packages do.
define LIBHYBRID_INSTALL_STAGING_CMDS
	mkdir -p $(STAGING_DIR)/usr
	cp -dpfr $(@D)/include $(@D)/lib $(STAGING_DIR)/usr/
	$(SED) 's,^prefix=.*,prefix=/usr,' \
		$(STAGING_DIR)/usr/lib/pkgconfig/hybrid.pc \
		$(STAGING_DIR)/usr/lib/pkgconfig/hybrid-shared.pc
endef

ifeq ($(BR2_PACKAGE_LIBHYBRID_SHARED),y)
define LIBHYBRID_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/usr/lib
	cp -dpf $(@D)/lib/libhybrid.so.* $(TARGET_DIR)/usr/lib/
endef
else
LIBHYBRID_INSTALL_TARGET = NO
endif

$(eval $(generic-package))
