//! Runs the pushes of docs/authentication.md against servers that require the login of their section.

use std::fs;
use std::path::Path;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use test_support::apache::{Apache, RequiredAuth};
use test_support::kerberos::Realm;
use test_support::pages::pages;
use wmhttp::server::access::AccessPolicy;

use super::{Way, all, commands, folder, point, run};

/// The realm of the page, and that of the tests' KDC.
const REALMS: [&str; 2] = ["STUDIO.EXAMPLE", "PUSH.TEST"];

/// Returns the page's only command with this beginning that `is_it` accepts.
fn command(start: &str, is_it: impl Fn(&str) -> bool) -> String {
    let page = pages().into_iter().find(|page| page.name() == "docs/authentication.md").unwrap();
    let commands: Vec<String> = page.blocks("sh").iter().flat_map(|block| commands(block)).collect();
    let mut found = commands.into_iter().filter(|command| command.starts_with(start) && is_it(command));
    let only = found.next().unwrap_or_else(|| panic!("no command begins with {start}"));
    assert_eq!(found.next(), None);
    only
}

/// Runs a push to its end, with these environment variables, and checks that the server receives it.
fn pushes(folder: &Path, command: &str, environment: &[(&str, String)], server: &BlockingServer) {
    let exports: String = environment.iter().map(|(name, value)| format!("export {name}='{value}'; ")).collect();
    run(folder, &format!("{{ {exports}{command}; }}")).output();
    let packets = server.stats("concert").unwrap().packets;
    assert!(packets > 10, "{packets}: {command}");
}

/// Returns the page's command with the location of a server that requires a login.
fn at(apache: &Apache, command: &str) -> String {
    let command = command.replace("http://media.studio.example/concert", &apache.location());
    // Apache forwards bodies in large parts. The file is small.
    format!("{command} content-length=40000").replace(REALMS[0], REALMS[1])
}

#[test]
fn every_push_of_the_page_is_run() {
    let run: Vec<String> = all(&[Way::Login]).into_iter().map(|(_, command)| command).collect();
    let expected = [plain(), by_ntlm(), kinit(), by_ticket(), by_realm()];
    assert_eq!(run, expected);
}

fn plain() -> String {
    command("gst-launch-1.0 ", |command| command.contains("user-id=bob "))
}

fn by_ntlm() -> String {
    command("gst-launch-1.0 ", |command| command.contains(r"user-id='STUDIO\\bob' "))
}

fn kinit() -> String {
    command("kinit ", |_| true)
}

fn by_ticket() -> String {
    command("gst-launch-1.0 ", |command| !command.contains("user-id="))
}

fn by_realm() -> String {
    command("gst-launch-1.0 ", |command| command.contains("user-id=bob@STUDIO.EXAMPLE "))
}

#[test]
fn a_user_name_and_a_password() {
    let folder = folder();
    run(folder.path(), &command("printf ", |_| true)).output();
    let users = fs::read_to_string(folder.path().join("users.htdigest")).unwrap();
    let users = Some(AccessPolicy::new(users.parse().unwrap()));
    let config = Config { users, ..Config::with_points(["concert"], &PointConfig::default()) };
    let server = Server::spawn(config).unwrap();
    pushes(folder.path(), &plain().replace("localhost:8080", &server.addr().to_string()), &[], &server);
}

#[test]
fn a_domain_account() {
    let (folder, server) = (folder(), point());
    let apache = Apache::new(server.addr(), RequiredAuth::Ntlm, "");
    // The users of the test's server belong to this domain.
    pushes(folder.path(), &at(&apache, &by_ntlm().replace("STUDIO", "DOMAIN")), &[], &server);
}

#[test]
fn a_ticket_by_kinit() {
    let (folder, server, realm) = (folder(), point(), Realm::new());
    let apache = Apache::new(server.addr(), RequiredAuth::Kerberos(&realm), "");
    // `kinit` writes the ticket to this file, which does not exist before.
    let tickets = format!("FILE:{}", folder.path().join("tickets").display());
    let environment = environment(&realm, tickets);
    let kinit = kinit().replace(REALMS[0], REALMS[1]);
    let command = format!("echo secret | {kinit} && {}", at(&apache, &by_ticket()));
    pushes(folder.path(), &command, &environment, &server);
}

#[test]
fn a_ticket_by_the_element() {
    let (folder, server, realm) = (folder(), point(), Realm::new());
    let apache = Apache::new(server.addr(), RequiredAuth::Kerberos(&realm), "");
    let environment = environment(&realm, "FILE:/no/tickets".to_owned());
    pushes(folder.path(), &at(&apache, &by_realm()), &environment, &server);
}

/// Returns the environment of the realm, with another credential cache.
fn environment(realm: &Realm, tickets: String) -> Vec<(&'static str, String)> {
    let of_realm = realm.environment().into_iter().filter(|(name, _)| *name != "KRB5CCNAME");
    of_realm.chain([("KRB5CCNAME", tickets)]).collect()
}
