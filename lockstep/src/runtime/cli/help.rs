//! `--help`.

use super::Application;

const COMMANDS: &str =
    "  init          make the configuration and the keys of a new pair, in one directory
  coserver      run the CoServer of a configuration
  witness       run the witness of a configuration
  status        ask a running process how it is
  metrics       ask a CoServer for its counters and latencies; JSON
  hand-over     have the other CoServer order the inputs from now on
  readmit       take the other CoServer in again, which was held for repair
  stop          have a process end in good order, as SIGTERM does, and wait until it has
  replace-peer  have a running CoServer know the other one by a new key
  replace-key   have a running witness know a CoServer by a new key
  enrol         make the first record of a pair whose witness is an object store
  new-lineage   give up what a pair held, after both CoServers lost it";

const FLAGS: &str = "\
init --dir DIR
    [--base-port PORT | --free-ports]   ports that are not said: counted up, or free now
    [--a-link ADDR]... [--b-link ADDR]...
                                        the CoServers' addresses, link by link
    [--witness ADDR] [--a-clients ADDR] [--b-clients ADDR] [--silence TIME]
coserver --config FILE
    [--directory DIR] [--key FILE] [--witness ADDR] [--clients ADDR]
    [--link LOCAL,REMOTE]...            in the order of the file's links
    [--no-return]                       end when removed, instead of coming back
    [--adopt]                           begin the new lineage with what is on this disk
    [--discard [--pair ID | --yes]]     begin with an empty disk; without --pair or --yes it only
                                        says what would be lost
witness --config FILE
    [--directory DIR] [--key FILE] [--listen ADDR]
coserver and witness
    [--log FILTER] [--log-format text|json]
                                        to standard error
    [--die-with-parent PID]             be killed when that process, which starts this one, ends
    [--allow-core-dumps]                core dumps, with all secrets in them
status, metrics, hand-over, readmit, stop: --config FILE | --dir DIR
    [--json]                            status: one line of JSON, on a terminal too
    [--timeout TIME]                    how long to wait for the answer
    [--wait TIME]                       stop: how long to wait for its end; 30s, and 0s: not at all
replace-peer --config FILE --key KEY
                                        the file of the CoServer that stays
replace-key --config FILE --pair ID --place a|b --key KEY
                                        the file of the witness
enrol --config FILE                     the file of a CoServer whose witness is an object store
new-lineage --config FILE [--pair ID] --yes
                                        the file of the witness, which must not run, or of a
                                        CoServer whose witness is an object store; without --yes
                                        it only says what would be lost

ADDR is an IP address with a port, TIME a whole number with its unit, as in 100ms or 2s.
--help, --version

Exit codes: 0 done, 10 removed, 11 not a member, 12 incompatible, 13 memory corrupted,
14 join ended, 15 lineage over, 16 hanging, 64 usage, 69 unavailable, 70 defect, 71 system,
73 exists, 74 storage, 75 locked, 78 configuration.";

pub(super) fn text<A: Application>(app: &A) -> String {
    let program = app.program();
    let own = match app.usage() {
        "" => String::new(),
        own => format!("\n{}", own.trim_end()),
    };
    format!(
        "{name} {version}\n{about}\n\nusage: {name} COMMAND [FLAGS]\n\n{COMMANDS}{own}\n\n{FLAGS}",
        name = program.name,
        version = program.version,
        about = program.about,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_and_its_columns_line_up() {
        for line in COMMANDS.lines().chain(FLAGS.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
        for line in COMMANDS.lines() {
            let (name, what) = line.split_at(16);
            assert!(name.starts_with("  ") && name.ends_with("  "), "{line:?}");
            assert!(!what.starts_with(' '), "{line:?}");
        }
        // What explains a flag begins in one column.
        let explained = FLAGS.lines().filter(|line| line.contains("    ") && line.len() > 40);
        for line in explained.filter(|line| line.trim_start().contains("   ")) {
            assert!(line.is_char_boundary(40) && line[..40].ends_with("  "), "{line:?}");
            assert!(!line[40..].starts_with(' '), "{line:?}");
        }
    }
}
