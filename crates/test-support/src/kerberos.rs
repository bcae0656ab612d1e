//! A Kerberos realm for a test: a KDC, a user with a ticket, and the key of a service.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::daemon::{Daemon, folder, program};

const REALM: &str = "PUSH.TEST";
const PASSWORD: &str = "secret";

/// A running KDC, with the service `HTTP/localhost` and the user `bob`, who has a ticket.
pub struct Realm {
    _kdc: Daemon,
    folder: TempDir,
}

impl Realm {
    pub fn new() -> Self {
        let folder = folder();
        let path = folder.path().display().to_string();
        let file = |name: &str| folder.path().join(name);
        let run = |name: &str, arguments: &[&str], input: &str| {
            let mut child = Command::new(program(name))
                .args(arguments)
                .envs(environment(&path))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
        };
        fs::write(
            file("kdc.conf"),
            format!(
                "[realms]\n{REALM} = {{\n database_name = {path}/database\n key_stash_file = {path}/stash\n\
                 acl_file = {path}/acl\n}}\n"
            ),
        )
        .unwrap();
        fs::write(file("krb5.conf"), configuration(&path, "127.0.0.1")).unwrap();
        run("kdb5_util", &["create", "-s", "-r", REALM, "-P", "master"], "");
        let keytab = format!("ktadd -k {path}/keytab HTTP/localhost");
        let user = format!("addprinc -pw {PASSWORD} bob");
        for query in ["addprinc -randkey HTTP/localhost", &keytab, &user] {
            run("kadmin.local", &["-r", REALM, "-q", query], "");
        }
        // Apache reads it as an unprivileged user.
        fs::set_permissions(file("keytab"), fs::Permissions::from_mode(0o644)).unwrap();
        let kdc = Daemon::start(&file("kdc"), |address| {
            fs::write(file("krb5.conf"), configuration(&path, &address.to_string())).unwrap();
            let mut command = vec!["env".to_owned()];
            command.extend(environment(&path).map(|(name, value)| format!("{name}={value}")));
            command.extend([program("krb5kdc"), "-n".to_owned(), "-r".to_owned(), REALM.to_owned()]);
            command
        });
        run("kinit", &["bob"], &format!("{PASSWORD}\n"));
        Self { _kdc: kdc, folder }
    }

    /// Returns the environment variables for programs of this realm.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        environment(&self.folder.path().display().to_string())
    }

    /// Returns the keytab of the service.
    pub fn keytab(&self) -> PathBuf {
        self.folder.path().join("keytab")
    }
}

fn environment(path: &str) -> [(&'static str, String); 4] {
    [
        ("KRB5_CONFIG", format!("{path}/krb5.conf")),
        ("KRB5_KDC_PROFILE", format!("{path}/kdc.conf")),
        ("KRB5CCNAME", format!("FILE:{path}/tickets")),
        // A replay cache would be shared with the system.
        ("KRB5RCACHENAME", "none:".to_owned()),
    ]
}

fn configuration(path: &str, kdc: &str) -> String {
    format!(
        "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n\
         dns_canonicalize_hostname = false\n\
         [realms]\n {REALM} = {{\n  kdc = {kdc}\n  kdc_listen = {kdc}\n  kdc_tcp_listen = {kdc}\n }}\n\
         [domain_realm]\n localhost = {REALM}\n\
         [logging]\n kdc = FILE:{path}/log\n"
    )
}
