//! The way to the cloud
//!
//! What hybrid_cloud_options may point to besides the address: what servers and networks ask for,
//! and whom the library trusts. hybrid_cloud_new copies everything.

use std::ffi::c_char;

use super::boundary::enter;
use super::client::{ClientIdentity, CloudOptions};
use super::fault::{Fault, Result, bad};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;

/// A header of HTTP. Its fields are final.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_header {
    /// Its name, for example `api-key`.
    pub name: *const c_char,
    /// Its value, never logged.
    pub value: *const c_char,
}

/// What servers and networks ask for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_cloud_network {
    /// sizeof(hybrid_cloud_network).
    pub struct_size: usize,
    /// Sent with every request; at most 32. Default: NULL.
    pub headers: *const hybrid_header,
    /// Elements of `headers`. Default: 0.
    pub header_count: usize,
    /// `http://[user:password@]host[:port]`: a proxy that opens a tunnel to the server (`CONNECT`).
    /// The proxy sees the server's name and no text. Proxy variables of the environment are not
    /// read. NULL: none. Default: NULL.
    pub proxy: *const c_char,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_cloud_network {
    const NAME: &'static str = "hybrid_cloud_network";
    const FIRST: usize = end_of!(Self, proxy);
    fn neutral() -> Self {
        hybrid_cloud_network {
            struct_size: size_of::<Self>(),
            headers: std::ptr::null(),
            header_count: 0,
            proxy: std::ptr::null(),
        }
    }
}

/// Which servers the library trusts besides those of the CAs, and the device's own certificate.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_cloud_trust {
    /// sizeof(hybrid_cloud_trust).
    pub struct_size: usize,
    /// The server's public key must be one of these, besides having a trusted certificate: the
    /// SHA-256 of the SubjectPublicKeyInfo in base64, 44 characters. None, or 2 to 16, so that a
    /// key can be replaced. Default: NULL.
    pub pins: *const *const c_char,
    /// Elements of `pins`. Default: 0.
    pub pin_count: usize,
    /// PEM file with the device's certificate, those between it and its CA, and its private key,
    /// for servers that ask for one. NULL: `client_pem`, or none. Default: NULL.
    pub client_file: *const c_char,
    /// The same in memory. NULL: `client_file`, or none. Default: NULL.
    pub client_pem: *const c_char,
    /// Bytes of `client_pem`. Default: 0.
    pub client_pem_size: usize,
    /// 1: trust the system's CAs too where the options name CAs of their own. Default: 0.
    pub system_too: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_cloud_trust {
    const NAME: &'static str = "hybrid_cloud_trust";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        hybrid_cloud_trust {
            struct_size: size_of::<Self>(),
            pins: std::ptr::null(),
            pin_count: 0,
            client_file: std::ptr::null(),
            client_pem: std::ptr::null(),
            client_pem_size: 0,
            system_too: 0,
            reserved: 0,
        }
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_cloud_network).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_network_init(
    network: *mut hybrid_cloud_network,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(network, struct_size, "network") })
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_cloud_trust).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_cloud_trust_init(
    trust: *mut hybrid_cloud_trust,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(trust, struct_size, "trust") })
}

impl hybrid_cloud_network {
    /// # Safety
    /// Header rules *Strings* and *Pointers*.
    pub(super) unsafe fn apply(&self, options: &mut CloudOptions) -> Result<()> {
        if !self.headers.is_null() && self.header_count == 0 {
            return Err(bad("network.headers is set, but network.header_count is 0".into()));
        }
        // SAFETY: the caller's rule *Pointers*.
        let headers = unsafe { pointers::slice(self.headers, self.header_count, "headers") }?;
        for header in headers {
            // SAFETY: the caller's rule *Strings*.
            let name = unsafe { pointers::string(header.name, "a header's name") }?;
            // SAFETY: the caller's rule *Strings*.
            let value = unsafe { pointers::string(header.value, "a header's value") }?;
            options.headers.push((name.to_owned(), value.to_owned()));
        }
        // SAFETY: the caller's rule *Strings*.
        let proxy = unsafe { pointers::optional_string(self.proxy, "network.proxy") }?;
        options.proxy = proxy.map(str::to_owned);
        Ok(())
    }
}

impl hybrid_cloud_trust {
    /// # Safety
    /// Header rules *Strings* and *Pointers*.
    pub(super) unsafe fn apply(&self, options: &mut CloudOptions) -> Result<()> {
        if self.reserved != 0 {
            return Err(bad("trust.reserved must be 0; call hybrid_cloud_trust_init first".into()));
        }
        if !self.pins.is_null() && self.pin_count == 0 {
            return Err(bad("trust.pins is set, but trust.pin_count is 0".into()));
        }
        // SAFETY: the caller's rule *Pointers*.
        let pins = unsafe { pointers::slice(self.pins, self.pin_count, "trust.pins") }?;
        for &pin in pins {
            // SAFETY: the caller's rule *Strings*.
            options.pins.push(unsafe { pointers::string(pin, "a pin") }?.to_owned());
        }
        options.system_roots_too = pointers::flag(self.system_too, "trust.system_too")?;
        // SAFETY: the caller's rules *Strings* and *Pointers*.
        options.identity = unsafe { self.identity() }?;
        Ok(())
    }

    /// # Safety
    /// As [`hybrid_cloud_trust::apply`].
    unsafe fn identity(&self) -> Result<Option<ClientIdentity>> {
        if self.client_pem.is_null() && self.client_pem_size > 0 {
            return Err(Fault::Null("trust.client_pem"));
        }
        match (self.client_file.is_null(), self.client_pem.is_null()) {
            (true, true) => Ok(None),
            (false, true) => {
                // SAFETY: the caller's rule *Strings*.
                let file = unsafe { pointers::path(self.client_file, "trust.client_file") }?;
                Ok(Some(ClientIdentity::PemFile(file)))
            }
            (true, false) => {
                let (pem, size) = (self.client_pem.cast::<u8>(), self.client_pem_size);
                // SAFETY: the caller's rule *Pointers*: `client_pem_size` bytes are readable.
                let pem = unsafe { pointers::slice(pem, size, "trust.client_pem") }?;
                Ok(Some(ClientIdentity::Pem(pem.to_vec().into())))
            }
            (false, false) => Err(bad("set one of trust.client_file and trust.client_pem".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_arrives() {
        let mut options = CloudOptions::default();
        let headers = [hybrid_header { name: c"api-key".as_ptr(), value: c"k".as_ptr() }];
        let mut network = hybrid_cloud_network::neutral();
        (network.headers, network.header_count) = (headers.as_ptr(), 1);
        network.proxy = c"http://p".as_ptr();
        let pins = [c"a".as_ptr(), c"b".as_ptr()];
        let mut trust = hybrid_cloud_trust::neutral();
        (trust.pins, trust.pin_count, trust.system_too) = (pins.as_ptr(), 2, 1);
        trust.client_file = c"client.pem".as_ptr();
        // SAFETY: the tests' strings are static.
        unsafe { network.apply(&mut options).and_then(|()| trust.apply(&mut options)) }.unwrap();
        assert_eq!(options.headers, [("api-key".to_owned(), "k".to_owned())]);
        assert_eq!(options.proxy.as_deref(), Some("http://p"));
        assert_eq!((options.pins, options.system_roots_too), (vec!["a".into(), "b".into()], true));
        let identity = options.identity;
        assert!(matches!(identity, Some(ClientIdentity::PemFile(f)) if f.ends_with("client.pem")));
    }

    #[test]
    fn a_bad_field_is_named() {
        type Change = fn(&mut hybrid_cloud_trust);
        let rows: [(Change, &str); 6] = [
            (|t| t.reserved = 1, "trust.reserved"),
            (|t| t.pin_count = 1, "trust.pins is NULL"),
            (|t| t.system_too = 2, "trust.system_too is 2"),
            (|t| t.client_pem_size = 1, "trust.client_pem is NULL"),
            (|t| t.client_file = c"".as_ptr(), "trust.client_file is an empty path"),
            (
                |t| (t.client_file, t.client_pem) = (c"a".as_ptr(), c"b".as_ptr()),
                "set one of trust.client_file",
            ),
        ];
        for (change, part) in rows {
            let mut trust = hybrid_cloud_trust::neutral();
            change(&mut trust);
            // SAFETY: the tests' strings are static; counts without lists are refused.
            let error = unsafe { trust.apply(&mut CloudOptions::default()) }.unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let mut network = hybrid_cloud_network::neutral();
        network.header_count = 1;
        // SAFETY: refused.
        let error = unsafe { network.apply(&mut CloudOptions::default()) }.unwrap_err();
        assert!(error.to_string().contains("headers is NULL"), "{error}");
    }
}
