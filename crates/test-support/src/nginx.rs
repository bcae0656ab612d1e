//! nginx as the TLS endpoint and reverse proxy of a publishing point.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::authority::Authority;
use crate::daemon::{Daemon, folder, program};

/// A running nginx, which serves only `https:`.
pub struct Nginx {
    daemon: Daemon,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx. It forwards requests to `upstream`; `lines` are added to the configuration of its location.
    pub fn new(authority: &Authority, upstream: SocketAddr, lines: &str) -> Self {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let (certificate, key) = authority.sign("127.0.0.1");
        fs::write(at("certificate.pem"), certificate.pem()).unwrap();
        fs::write(at("key.pem"), key.serialize_pem()).unwrap();
        let daemon = Daemon::start(&at("said"), |address| {
            let path = folder.path().display();
            let configuration = format!(
                "daemon off; master_process off; pid {path}/pid; error_log {path}/errors info;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{\n\
                   log_format exchange '$connection $request $status $upstream_status $request_length';\n\
                   access_log {path}/access exchange;\n\
                   client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
                   uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
                   client_max_body_size 0;\n\
                   server {{\n\
                     listen {address} ssl;\n\
                     ssl_certificate {path}/certificate.pem; ssl_certificate_key {path}/key.pem;\n\
                     location / {{ proxy_pass http://{upstream}; {lines} }}\n\
                   }}\n\
                 }}\n"
            );
            fs::write(at("nginx.conf"), configuration).unwrap();
            let path = |name| at(name).display().to_string();
            [program("nginx"), "-e".to_owned(), path("errors"), "-c".to_owned(), path("nginx.conf")].into()
        });
        Self { daemon, folder }
    }

    /// The publishing point's URL through nginx.
    pub fn location(&self) -> String {
        format!("https://{}/concert", self.daemon.address)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns one line per completed request: `connection method target protocol status upstream-status length`.
    pub fn requests(&self) -> Vec<String> {
        fs::read_to_string(self.file("access")).unwrap().lines().map(str::to_owned).collect()
    }
}
