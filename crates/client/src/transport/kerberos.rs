//! Kerberos tickets from the system's GSSAPI library (RFC 2743, RFC 2744), as SPNEGO tokens (RFC 4559).
//!
//! The library is loaded on first use, so that the plugin also works without it. Its calls may wait for files and for
//! the realm's servers, so they must run on threads that may block.

/// Whether this build supports Kerberos tickets.
pub const AVAILABLE: bool = cfg!(gssapi);

#[cfg(not(gssapi))]
/// Always fails, because this build does not support Kerberos.
///
/// # Errors
/// Always.
pub fn ticket(_request: &wmhttp::auth::TicketRequest) -> Result<Vec<u8>, String> {
    Err("this build does not support Kerberos".to_owned())
}

#[cfg(gssapi)]
pub use gssapi::ticket;

#[cfg(gssapi)]
mod gssapi {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    use libloading::Library;
    use once_cell::sync::OnceCell;
    use zeroize::Zeroizing;

    use wmhttp::auth::{Credentials, TicketRequest};

    /// MIT Kerberos.
    const LIBRARY: &str = "libgssapi_krb5.so.2";

    type Code = u32;
    type Handle = *mut c_void;

    /// `gss_buffer_desc`.
    #[repr(C)]
    struct Buffer {
        length: usize,
        value: *mut c_void,
    }

    /// `gss_OID_desc`.
    #[repr(C)]
    struct Oid {
        length: Code,
        elements: *const c_void,
    }

    /// `gss_OID_set_desc`.
    #[repr(C)]
    struct OidSet {
        count: usize,
        elements: *const Oid,
    }

    // The object identifiers 1.2.840.113554.1.2.1.4, 1.2.840.113554.1.2.1.1, 1.2.840.113554.1.2.2 and 1.3.6.1.5.5.2 in
    // DER.
    const HOST_BASED_SERVICE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";
    const USER_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01";
    const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
    const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

    /// `GSS_C_INITIATE`: the credentials are for a client.
    const INITIATE: c_int = 1;
    /// `GSS_C_GSS_CODE` and `GSS_C_MECH_CODE`.
    const MAJOR: c_int = 1;
    const MINOR: c_int = 2;
    /// The upper 16 bits contain errors; the lower ones are informational.
    const ERRORS: Code = 0xFFFF_0000;
    /// `GSS_S_FAILURE`: only the minor code says what happened.
    const UNSPECIFIED: Code = 13 << 16;

    type ImportName = unsafe extern "C" fn(*mut Code, *const Buffer, *const Oid, *mut Handle) -> Code;
    type AcquireCred = unsafe extern "C" fn(
        *mut Code,
        Handle,
        Code,
        *const OidSet,
        c_int,
        *mut Handle,
        *mut *mut OidSet,
        *mut Code,
    ) -> Code;
    type AcquireCredWithPassword = unsafe extern "C" fn(
        *mut Code,
        Handle,
        *const Buffer,
        Code,
        *const OidSet,
        c_int,
        *mut Handle,
        *mut *mut OidSet,
        *mut Code,
    ) -> Code;
    type SetNegMechs = unsafe extern "C" fn(*mut Code, Handle, *const OidSet) -> Code;
    type InitSecContext = unsafe extern "C" fn(
        *mut Code,
        Handle,
        *mut Handle,
        Handle,
        *const Oid,
        Code,
        Code,
        *const c_void,
        *const Buffer,
        *mut *mut Oid,
        *mut Buffer,
        *mut Code,
        *mut Code,
    ) -> Code;
    type DisplayStatus = unsafe extern "C" fn(*mut Code, Code, c_int, *const Oid, *mut Code, *mut Buffer) -> Code;
    type ReleaseBuffer = unsafe extern "C" fn(*mut Code, *mut Buffer) -> Code;
    type ReleaseHandle = unsafe extern "C" fn(*mut Code, *mut Handle) -> Code;
    type DeleteSecContext = unsafe extern "C" fn(*mut Code, *mut Handle, *mut Buffer) -> Code;

    /// The library's functions. The library stays loaded for the life of the process.
    struct Functions {
        import_name: ImportName,
        acquire_cred: AcquireCred,
        acquire_cred_with_password: AcquireCredWithPassword,
        set_neg_mechs: SetNegMechs,
        init_sec_context: InitSecContext,
        display_status: DisplayStatus,
        release_buffer: ReleaseBuffer,
        release_name: ReleaseHandle,
        release_cred: ReleaseHandle,
        delete_sec_context: DeleteSecContext,
    }

    /// A missing library is looked up again next time, because it may have been installed meanwhile.
    static FUNCTIONS: OnceCell<Functions> = OnceCell::new();

    /// The library's functions, which are loaded on the first call.
    fn functions() -> Result<&'static Functions, String> {
        let load = || {
            Functions::load(LIBRARY)
                .map_err(|error| format!("cannot load the GSSAPI library (Debian package libgssapi-krb5-2): {error}"))
        };
        FUNCTIONS.get_or_try_init(load)
    }

    impl Functions {
        #[expect(unsafe_code, reason = "loads a library and assigns types to its functions")]
        fn load(library: &str) -> Result<Self, libloading::Error> {
            // SAFETY: MIT's library only initializes itself when it is loaded, and it stays loaded, so that its
            // functions outlive all uses. The types are those of RFC 2744 and gssapi_ext.h.
            unsafe {
                let library = Library::new(library)?;
                let functions = Self {
                    import_name: *library.get(b"gss_import_name\0")?,
                    acquire_cred: *library.get(b"gss_acquire_cred\0")?,
                    acquire_cred_with_password: *library.get(b"gss_acquire_cred_with_password\0")?,
                    set_neg_mechs: *library.get(b"gss_set_neg_mechs\0")?,
                    init_sec_context: *library.get(b"gss_init_sec_context\0")?,
                    display_status: *library.get(b"gss_display_status\0")?,
                    release_buffer: *library.get(b"gss_release_buffer\0")?,
                    release_name: *library.get(b"gss_release_name\0")?,
                    release_cred: *library.get(b"gss_release_cred\0")?,
                    delete_sec_context: *library.get(b"gss_delete_sec_context\0")?,
                };
                // All functions were found; keep the library loaded.
                std::mem::forget(library);
                Ok(functions)
            }
        }

        /// Converts a call's result codes to a `Result`.
        fn check(&self, what: &str, major: Code, minor: Code) -> Result<(), String> {
            if major & ERRORS == 0 {
                return Ok(());
            }
            let kerberos = oid(KERBEROS);
            let [general, specific] = [(major, MAJOR), (minor, MINOR)].map(|(code, kind)| {
                let (mut ignored, mut context, mut text) = (0, 0, Buffer::EMPTY);
                #[expect(unsafe_code, reason = "a C function")]
                // SAFETY: all pointers are to values on the stack; the buffer is read and then released.
                unsafe {
                    (self.display_status)(
                        &raw mut ignored,
                        code,
                        kind,
                        &raw const kerberos,
                        &raw mut context,
                        &raw mut text,
                    );
                    self.take(&mut text)
                }
            });
            // Some texts end with a NUL, or contain line ends and double spaces.
            let [general, specific] = [general, specific].map(|text| {
                let text = String::from_utf8_lossy(&text).replace(char::is_control, " ");
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            });
            Err(match (general.as_str(), specific.as_str()) {
                (general, "") => format!("{what}: {general}"),
                (_, specific) if major & ERRORS == UNSPECIFIED => format!("{what}: {specific}"),
                (general, specific) => format!("{what}: {general}; {specific}"),
            })
        }

        /// Copies the contents of a buffer that the library has filled, and releases it.
        ///
        /// # Safety
        /// The buffer must be empty or filled by the library.
        #[expect(unsafe_code, reason = "reads memory of the library")]
        unsafe fn take(&self, buffer: &mut Buffer) -> Vec<u8> {
            if buffer.value.is_null() {
                return Vec::new();
            }
            let mut minor = 0;
            // SAFETY: the library has filled the buffer, which is valid until it is released.
            unsafe {
                let bytes = std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length).to_vec();
                (self.release_buffer)(&raw mut minor, buffer);
                bytes
            }
        }
    }

    impl Buffer {
        const EMPTY: Self = Self { length: 0, value: ptr::null_mut() };

        /// The library does not write to buffers that it receives as input.
        fn of(bytes: &[u8]) -> Self {
            Self { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
        }
    }

    /// An object identifier, from its DER contents.
    fn oid(bytes: &'static [u8]) -> Oid {
        Oid { length: Code::try_from(bytes.len()).unwrap_or(0), elements: bytes.as_ptr().cast() }
    }

    /// A handle of the library that must be released.
    struct Owned {
        handle: Handle,
        release: ReleaseHandle,
    }

    impl Drop for Owned {
        #[expect(unsafe_code, reason = "a C function")]
        fn drop(&mut self) {
            let mut minor = 0;
            if !self.handle.is_null() {
                // SAFETY: the handle was created by the library, and this is its last use.
                unsafe { (self.release)(&raw mut minor, &raw mut self.handle) };
            }
        }
    }

    /// A security context of the library, which is deleted on drop.
    struct Context<'a> {
        handle: Handle,
        functions: &'a Functions,
    }

    impl Drop for Context<'_> {
        #[expect(unsafe_code, reason = "a C function")]
        fn drop(&mut self) {
            let mut minor = 0;
            if !self.handle.is_null() {
                // SAFETY: the handle was created by the library, and this is its last use.
                unsafe { (self.functions.delete_sec_context)(&raw mut minor, &raw mut self.handle, ptr::null_mut()) };
            }
        }
    }

    /// Returns the token that authenticates the user to a service, from the ticket in the system's credential cache or
    /// from one obtained with the credentials. May block for as long as the realm's servers need.
    ///
    /// # Errors
    /// The library's description of why no ticket could be obtained.
    pub fn ticket(request: &TicketRequest) -> Result<Vec<u8>, String> {
        let functions = functions()?;
        let service = name(functions, &format!("HTTP@{}", request.host), HOST_BASED_SERVICE)?;
        let user = credentials(functions, request.credentials.as_ref())?;
        let spnego = oid(SPNEGO);
        let mut context = Context { handle: ptr::null_mut(), functions };
        let (mut minor, mut token) = (0, Buffer::EMPTY);
        #[expect(unsafe_code, reason = "a C function")]
        // SAFETY: names and credentials were created by the library and are still alive; optional arguments are null.
        let (major, token) = unsafe {
            let major = (functions.init_sec_context)(
                &raw mut minor,
                user.handle,
                &raw mut context.handle,
                service.handle,
                &raw const spnego,
                0,
                0,
                ptr::null(),
                ptr::null(),
                ptr::null_mut(),
                &raw mut token,
                ptr::null_mut(),
                ptr::null_mut(),
            );
            (major, functions.take(&mut token))
        };
        functions.check("no ticket", major, minor)?;
        if token.is_empty() { Err("no ticket".to_owned()) } else { Ok(token) }
    }

    /// Converts a service or user name to the library's form.
    fn name(functions: &Functions, text: &str, kind: &'static [u8]) -> Result<Owned, String> {
        let (buffer, kind) = (Buffer::of(text.as_bytes()), oid(kind));
        let mut name = Owned { handle: ptr::null_mut(), release: functions.release_name };
        let mut minor = 0;
        #[expect(unsafe_code, reason = "a C function")]
        // SAFETY: the library copies text and kind.
        let major = unsafe {
            (functions.import_name)(&raw mut minor, &raw const buffer, &raw const kind, &raw mut name.handle)
        };
        functions.check(&format!("cannot use the name {text}"), major, minor)?;
        Ok(name)
    }

    /// Acquires the Kerberos credentials of a user, or the system's default ones.
    fn credentials(functions: &Functions, login: Option<&Credentials>) -> Result<Owned, String> {
        let mut user = Owned { handle: ptr::null_mut(), release: functions.release_cred };
        let (spnego, kerberos) = (oid(SPNEGO), oid(KERBEROS));
        let mechanisms = OidSet { count: 1, elements: &raw const spnego };
        let inner_mechanisms = OidSet { count: 1, elements: &raw const kerberos };
        let mut minor = 0;
        let (actual, time) = (ptr::null_mut(), ptr::null_mut());
        let major = match login {
            Some(login) => {
                let name = name(functions, &login.user, USER_NAME)?;
                // The library's buffers need no terminating NUL, but some of its mechanisms look for one.
                let password = Zeroizing::new([login.password.reveal(), "\0"].concat());
                let buffer = Buffer { length: login.password.reveal().len(), ..Buffer::of(password.as_bytes()) };
                #[expect(unsafe_code, reason = "a C function")]
                // SAFETY: the library copies name and password.
                unsafe {
                    (functions.acquire_cred_with_password)(
                        &raw mut minor,
                        name.handle,
                        &raw const buffer,
                        0,
                        &raw const mechanisms,
                        INITIATE,
                        &raw mut user.handle,
                        actual,
                        time,
                    )
                }
            }
            None => {
                #[expect(unsafe_code, reason = "a C function")]
                // SAFETY: a null name means the default user.
                unsafe {
                    (functions.acquire_cred)(
                        &raw mut minor,
                        ptr::null_mut(),
                        0,
                        &raw const mechanisms,
                        INITIATE,
                        &raw mut user.handle,
                        actual,
                        time,
                    )
                }
            }
        };
        functions.check("cannot get Kerberos credentials", major, minor)?;
        #[expect(unsafe_code, reason = "a C function")]
        // SAFETY: the credentials were created by the library, which copies the set.
        let major = unsafe { (functions.set_neg_mechs)(&raw mut minor, user.handle, &raw const inner_mechanisms) };
        functions.check("cannot limit SPNEGO to Kerberos", major, minor)?;
        Ok(user)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Without a server for the realm no ticket can be obtained, and the error contains the library's reason.
        #[test]
        fn a_failure_contains_the_reason() {
            let of = |user: &str| Some(Credentials::new(user, "hush"));
            let request = TicketRequest { host: "media.invalid".into(), credentials: of("bob@NOWHERE.INVALID") };
            let why = ticket(&request).unwrap_err();
            assert!(why.starts_with("cannot get Kerberos credentials: ") || why.starts_with("no ticket: "), "{why}");
            assert!(why.len() > 40 && !why.contains("hush"), "{why}");
            assert!(!why.contains(char::is_control) && !why.contains("  ") && why.trim() == why, "{why:?}");
        }
    }
}
