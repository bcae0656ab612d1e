//! Real proxy programs, which are stopped on drop.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::daemon::{self, Daemon};

/// The user of a proxy that requires authentication.
pub const USER: &str = "bob";
pub const PASSWORD: &str = "pass-word";

/// The authentication that a proxy requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredAuth {
    Nothing,
    Basic,
    Digest,
}

pub struct Proxy {
    pub addr: SocketAddr,
    _daemon: Daemon,
    directory: TempDir,
}

impl Proxy {
    pub fn squid(asks: RequiredAuth) -> Self {
        let access = match asks {
            RequiredAuth::Nothing => "http_access allow localhost\n",
            RequiredAuth::Basic => {
                "auth_param basic program /usr/lib/squid/basic_ncsa_auth DIRECTORY/users\n\
                 auth_param basic realm proxy\nacl known proxy_auth REQUIRED\nhttp_access allow known\n"
            }
            RequiredAuth::Digest => {
                "auth_param digest program /usr/lib/squid/digest_file_auth DIRECTORY/users\n\
                 auth_param digest realm proxy\nacl known proxy_auth REQUIRED\nhttp_access allow known\n"
            }
        };
        let users = match asks {
            // The MD5 of the password.
            RequiredAuth::Basic => "bob:ed0eacb4e34e50c1c53f9698600d4b86\n",
            RequiredAuth::Digest => "bob:pass-word\n",
            RequiredAuth::Nothing => "",
        };
        let config = format!(
            "http_port ADDRESS\n{access}http_access deny all\ncache deny all\npid_filename none\naccess_log stdio:DIRECTORY/requests logformat=common\n\
             logfile_rotate 0\nbuffered_logs off\ncache_log DIRECTORY/log\ncoredump_dir DIRECTORY\nnetdb_filename none\npinger_enable off\n\
             visible_hostname localhost\nshutdown_lifetime 0 seconds\n"
        );
        Self::start("squid", &["-N", "-f"], &config, users)
    }

    pub fn tinyproxy(asks: RequiredAuth) -> Self {
        let access = match asks {
            RequiredAuth::Nothing => "",
            RequiredAuth::Basic => "BasicAuth bob pass-word\n",
            RequiredAuth::Digest => panic!("tinyproxy does not support Digest"),
        };
        let config =
            format!("Listen 127.0.0.1\nPort PORT\nAllow 127.0.0.1\nTimeout 600\nLogFile \"DIRECTORY/log\"\n{access}");
        Self::start("tinyproxy", &["-d", "-c"], &config, "")
    }

    /// Starts the program with `arguments` and the path of the configuration file.
    fn start(name: &str, arguments: &[&str], config: &str, users: &str) -> Self {
        let directory = daemon::folder();
        // If root runs the tests, the proxy runs as another user, who writes its log here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(directory.path().join("users"), users).unwrap();
        let file = directory.path().join("config");
        let daemon = Daemon::start(&directory.path().join("output"), |address| {
            let config = config
                .replace("ADDRESS", &address.to_string())
                .replace("PORT", &address.port().to_string())
                .replace("DIRECTORY", directory.path().to_str().unwrap());
            fs::write(&file, config).unwrap();
            let arguments = arguments.iter().map(ToString::to_string);
            [daemon::program(name)].into_iter().chain(arguments).chain([file.display().to_string()]).collect()
        });
        Self { addr: daemon.address, _daemon: daemon, directory }
    }

    /// Returns the value for the property `proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns the URL with the credentials of the permitted user.
    pub fn url_with_login(&self) -> String {
        format!("http://{USER}:{PASSWORD}@{}", self.addr)
    }

    /// Returns the number of completed requests in squid's log.
    pub fn requests(&self) -> usize {
        let lines = fs::read_to_string(self.directory.path().join("requests")).unwrap_or_default();
        // A connection without a request, such as the one that tests whether squid listens, has a line too.
        lines.lines().filter(|line| !line.contains("error:")).count()
    }
}
