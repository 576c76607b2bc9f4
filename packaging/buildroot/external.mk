include $(sort $(wildcard $(BR2_EXTERNAL_LIBHYBRID_PATH)/package/*/*.mk))
