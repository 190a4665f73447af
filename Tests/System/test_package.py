"""What is installed: manual pages, completions, example settings, units and the packages themselves, without a boot."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from daemon import ROOT, program

LOSSD, LOSSCTL = program("lossd"), program("lossctl")
COMMON = {"--server", "--version", "-h", "--help"}


def run(*command, check=True, **options):
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, **options)
    if check and result.returncode:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def need(*programs):
    """What a machine may lack outside of CI, where it is a failure."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing and os.environ.get("CI"):
        raise AssertionError(f"{', '.join(missing)} must be installed here")
    if missing:
        raise unittest.SkipTest(f"{', '.join(missing)} is not installed")


def commands(path):
    """Every command of a program, as its words: the options that it shows, and its subcommands."""
    found = {}

    def walk(command, before):
        words = before + (command["commandName"],)
        options = {
            ("-" if name["kind"] == "short" else "--") + name["name"]
            for argument in command.get("arguments", []) if argument["shouldDisplay"]
            for name in argument.get("names", [])}
        below = [each for each in command.get("subcommands", []) if each["commandName"] != "help"]
        found[words] = (options, {each["commandName"] for each in below})
        for each in below:
            walk(each, words)

    walk(json.loads(run(path, "--experimental-dump-help").stdout)["command"], ())
    return found


def settings():
    """name: (default, kind, restart or reload)"""
    rows = [line.split("\t") for line in run(LOSSD, "--dump-settings").stdout.splitlines()]
    return {name: (default, kind, when) for name, default, kind, when, _, _ in rows}


def entries(page):
    """The options that a part of a manual page describes: those of the lines behind .TP."""
    text = page.replace("\\-", "-")
    return {option for line in re.findall(r"^\.TP\n(.*)", text, re.M)
            for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line)}


class Installed(unittest.TestCase):
    """make install, to /usr as packages have it and to a prefix of one's own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.usr, cls.own = cls.folder / "usr", cls.folder / "own"
        for root, prefix in ((cls.usr, "/usr"), (cls.own, "/opt/lossd")):
            run(ROOT / "packaging" / "install.sh", env=dict(
                os.environ, DESTDIR=str(root), PREFIX=prefix, BUILD=os.path.dirname(LOSSD), STRIP="no"))

    def page(self, name):
        return (self.usr / "usr/share/man" / f"man{name[-1]}" / name).read_text()

    def test_lossd_8_describes_every_option_and_no_other(self):
        options, _ = commands(LOSSD)["lossd",]
        part = self.page("lossd.8").split(".SH OPTIONS")[1].split(".SH ")[0]
        self.assertEqual(entries(part), options)
        # Those of --help are the same: what is hidden there is not an administrator's.
        self.assertEqual(set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", run(LOSSD, "--help").stdout, re.M)), options - {"-h"})

    def test_lossctl_1_describes_every_command_and_option_and_no_other(self):
        page = self.page("lossctl.1")
        self.assertEqual(entries(page.split(".SH OPTIONS")[1].split(".SH ")[0]), COMMON)
        parts = re.split(r"^\.SS ", page.split(".SH COMMANDS")[1].split(".SH ")[0], flags=re.M)[1:]
        described = {}
        for part in parts:
            title, text = part.split("\n", 1)
            words = tuple(re.match(r"[a-z ]+", title.replace("\\", "|")).group().split())
            described[words] = entries(text)
        expected = {words: options - COMMON for words, (options, below) in commands(LOSSCTL).items() if not below}
        self.assertEqual(described, expected)
        for words in expected:
            self.assertIn(f".B lossctl {words[1]}", page.split(".SH DESCRIPTION")[0])

    def test_lossd_yaml_5_describes_every_setting_with_its_default_and_when_it_is_taken(self):
        page = self.page("lossd.yaml.5").replace("\\-", "-")
        for name, (default, kind, when) in settings().items():
            entry = page.split(f"\n.B {name}\n")[1].split(".TP")[0]
            self.assertIn(f"default {default or 'none'};", entry)
            self.assertIn(kind, entry)
            self.assertIn("taken at a restart" if when == "restart" else "taken by a reload too", entry)

    def test_the_pages_on_limits_and_operation_know_every_setting(self):
        limits = (ROOT / "docs" / "limits.md").read_text()
        operations = (ROOT / "docs" / "operations.md").read_text()
        restart = re.search(r"need a restart:(.*?)\.\s", operations, re.S).group(1)
        for name, (default, _, when) in settings().items():
            self.assertIn(f"`{name}`", limits)
            if name.startswith("limits."):
                self.assertRegex(limits, rf"\| `{name}` \| {default}\b")
                self.assertRegex(operations, rf"\| `{name}`[^|]*\|")
            self.assertEqual(f"`{name}`" in restart, when == "restart", name)
        self.assertEqual(
            set(re.findall(r"`(limits\.[a-z_]+)`", limits + operations)),
            {name for name in settings() if name.startswith("limits.")})

    def test_the_example_settings_have_every_key_and_are_good_as_they_are_and_uncommented(self):
        shipped = (self.usr / "etc/lossd/lossd.yaml").read_text()
        self.assertEqual(shipped, (self.usr / "usr/share/doc/lossd/examples/lossd.yaml").read_text())
        uncommented = re.sub(r"^( *)#([^ \n])", r"\1\2", shipped, flags=re.M)
        keys, section = [], ""
        for line in uncommented.splitlines():
            if match := re.match(r"( *)([a-z_]+):", line):
                section = section if match[1] else match[2]
                keys.append(f"{section}.{match[2]}" if match[1] else match[2])
        self.assertEqual([key for key in keys if key not in ("limits", "plugins")], list(settings()))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            for text in (shipped, uncommented):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()
                self.assertIn("settings are good", run(LOSSD, "--check-config", "--config", file.name).stdout)
            # And each of them is looked at: a value that it cannot have is refused, by its name.
            for name in settings():
                key = name.split(".")[-1]
                wrong, count = re.subn(rf"^( *){key}: .*", rf"\1{key}: './?'", uncommented, flags=re.M)
                self.assertEqual(count, 1, name)
                file.seek(0)
                file.truncate()
                file.write(wrong)
                file.flush()
                refused = run(LOSSD, "--check-config", "--config", file.name, check=False)
                self.assertEqual(refused.returncode, 78, name)
                self.assertIn(f"{name}: ", refused.stderr)

    def test_nothing_of_another_prefix_is_in_what_is_installed_under_this_one(self):
        for path in self.own.rglob("*"):
            if path.is_file() and path.stat().st_size < 100_000 and path.suffix != ".npy":
                # What a plugin's author reads names no place.
                for line in path.read_text().splitlines():
                    for place in ("/usr/sbin", "/usr/lib/lossd", "/usr/share/doc/lossd"):
                        self.assertNotIn(place, line, path)
        self.assertIn(
            "ExecStart=/opt/lossd/sbin/lossd ", (self.own / "opt/lossd/lib/systemd/system/lossd.service").read_text())

    def test_every_page_for_users_is_installed_and_every_link_in_it_leads_somewhere(self):
        for root, prefix in ((self.usr, "usr"), (self.own, "opt/lossd")):
            doc = root / prefix / "share/doc"
            pages = {path.name for path in (doc / "lossd").glob("*.md")}
            self.assertEqual(pages, {f"{name}.md" for name in (
                "clients", "functions", "grpc", "limits", "operations", "plugins", "protocol", "security")})
            links = 0
            for path in (*doc.rglob("*.md"), *doc.rglob("README*")):
                text = path.read_text()
                titles = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
                          for title in re.findall(r"^#+ (.*)", text, re.M)}
                for link in re.findall(r"\]\(([^)\s]+)\)", text):
                    if re.match(r"https?:", link):
                        continue
                    target, _, title = link.partition("#")
                    links += 1
                    if target:
                        self.assertTrue((path.parent / target).exists(), f"{path}: {link}")
                    elif title:
                        self.assertIn(title, titles, f"{path}: {link}")
                if path.parent == doc / "lossd":  # a package of its own
                    self.assertNotIn("](../", text, path)
            self.assertGreater(links, 20)

    def test_the_commands_of_the_pages_find_their_files_from_the_folder_of_the_pages(self):
        doc = self.usr / "usr/share/doc/lossd"
        named = {word for path in doc.glob("*.md")
                 for word in re.findall(r"(?<![\w/])examples/(?:data/)?\w+\.(?:npy|c|py|json)\b", path.read_text())}
        self.assertGreater(len(named), 5)
        for word in named:
            self.assertTrue((doc / word).exists(), word)

    def test_installing_again_keeps_the_settings_that_are_there(self):
        config = self.own / "etc/lossd/lossd.yaml"
        config.write_text("workers: 3\n")
        run(ROOT / "packaging" / "install.sh", env=dict(
            os.environ, DESTDIR=str(self.own), PREFIX="/opt/lossd", BUILD=os.path.dirname(LOSSD), STRIP="no"))
        self.assertEqual(config.read_text(), "workers: 3\n")

    def test_the_manual_pages_have_no_mistakes(self):
        need("man", "groff")
        for path in (self.usr / "usr/share/man").rglob("*.?"):
            warnings = run(
                "man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path,
                env=dict(os.environ, LC_ALL="C.UTF-8", MANROFFSEQ="", MANWIDTH="80")).stderr
            self.assertEqual(warnings, "", path)

    # MARK: - Completions

    def completions(self, shell, words):
        """What `shell` offers behind these words."""
        name = words[0]
        if shell == "bash":
            script = (
                f"source {self.usr}/usr/share/bash-completion/completions/{name}\n"
                f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}\n"
                f"COMP_LINE={' '.join(words)!r}; COMP_POINT=${{#COMP_LINE}}\n"
                f"_{name} {name} {words[-1]!r} {words[-2]!r}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
            return set(run("bash", "-c", script).stdout.split())
        script = (f"source {self.usr}/usr/share/fish/vendor_completions.d/{name}.fish\n"
                  f"complete -C {' '.join(words)!r}\n")
        environment = dict(os.environ, HOME=str(self.folder), PATH=f"{os.path.dirname(LOSSD)}:{os.environ['PATH']}")
        return {line.split("\t")[0] for line in run("fish", "-N", "-c", script, env=environment).stdout.splitlines()}

    def every_command_completes(self, shell):
        for path in (LOSSD, LOSSCTL):
            for words, (options, below) in commands(path).items():
                offered = self.completions(shell, [*words, "-"])
                self.assertEqual({each for each in offered if each.startswith("-")}, options, words)
                if below:
                    self.assertLessEqual(below, self.completions(shell, [*words, ""]), words)
        self.assertLessEqual({"debug", "error"}, self.completions(shell, ["lossd", "--log-level", ""]))

    def test_bash_completes_every_command_and_option(self):
        self.every_command_completes("bash")
        self.assertEqual(self.completions("bash", ["lossd", "--set", "limits.str"]), {
            "limits.streams=", "limits.stream_credit="})

    def test_fish_completes_every_command_and_option(self):
        need("fish")
        self.every_command_completes("fish")
        self.assertIn("cross_entropy", self.completions("fish", ["lossctl", "eval", ""]))

    def test_zsh_completes_every_command_and_option(self):
        need("zsh")
        # zsh completes at a terminal alone; what it is given, and that it can be read, can be looked at.
        for path in (LOSSD, LOSSCTL):
            name = os.path.basename(path)
            script = self.usr / "usr/share/zsh/vendor-completions" / f"_{name}"
            run("zsh", "-n", script)
            text = script.read_text()
            self.assertTrue(text.startswith(f"#compdef {name}\n"))
            for words, (options, below) in commands(path).items():
                part = text.split(f"\n_{'_'.join(words)}() {{")[1].split("\n}\n")[0]
                for option in options:
                    self.assertRegex(part, rf"['({{*, ]{re.escape(option)}[\[',)}} ]", words)
                for each in below:
                    self.assertRegex(part, rf"['|( ]{each}[:'|) ]", words)


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("dpkg-deb", "dpkg-shlibdeps")
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-deb-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run(ROOT / "packaging" / "deb.sh", cls.folder, env=dict(
            os.environ, COMPRESSION="none", BUILD=os.path.dirname(LOSSD)))
        cls.debs = {path.name.split("_")[0]: path for path in cls.folder.glob("*.deb")}

    def test_lintian_finds_no_error(self):
        need("lintian")
        # Uncompressed for speed, here alone.
        result = run(
            "lintian", "--fail-on", "error,warning", "--suppress-tags",
            "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", *self.debs.values(),
            check=False, env=dict(os.environ, LC_ALL="C.UTF-8"))
        self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_the_packages_share_no_file_and_need_no_swift(self):
        contents = {}
        for name, path in self.debs.items():
            lines = [line.split(None, 5) for line in run("dpkg-deb", "-c", path).stdout.splitlines()]
            self.assertEqual({line[1] for line in lines}, {"root/root"})
            links = [line[5] for line in lines if line[0][0] == "l"]
            self.assertEqual(links, ["./usr/bin/lossctl -> ../sbin/lossd"] if name == "lossd" else [])
            self.assertEqual({line[0][0] for line in lines} - {"l"}, {"d", "-"})
            contents[name] = {line[5] for line in lines if line[0][0] == "-"}
        self.assertEqual(contents["lossd"] & contents["lossd-dev"], set())
        for path in ("usr/sbin/lossd", "usr/lib/systemd/system/lossd.service", "etc/lossd/lossd.yaml",
                     "usr/share/doc/lossd/copyright", "usr/share/man/man7/lossd-plugins.7.gz",
                     *(f"usr/share/doc/lossd/{name}" for name in (
                         "operations.md", "functions.md", "clients.md", "protocol.md", "grpc.md", "lossd.proto"))):
            self.assertIn(f"./{path}", contents["lossd"])
        self.assertIn("./usr/include/lossd/plugin.h", contents["lossd-dev"])
        depends = run("dpkg-deb", "-f", self.debs["lossd"], "Depends").stdout
        self.assertEqual(
            {each.split()[0] for each in depends.split(", ")},
            {"libc6", "libgcc-s1", "libmd0", "libnghttp2-14", "libprotobuf-c1", "libseccomp2", "libstdc++6", "libuv1",
             "libyaml-0-2", "systemd", "zlib1g"})
        for path in (LOSSD, LOSSCTL):
            self.assertNotIn("libswift", run("ldd", path).stdout)

    def test_the_program_takes_25_megabytes_its_package_10_and_no_icu_is_in_it(self):
        tree = self.folder / "tree"
        run("dpkg-deb", "-x", self.debs["lossd"], tree)
        programs = [path for path in tree.rglob("*") if not path.is_symlink() and os.access(path, os.X_OK)
                    and path.is_file()]
        self.assertEqual([path.name for path in programs], ["lossd"])
        self.assertLessEqual(programs[0].stat().st_size, 25_000_000)
        # As it is shipped: compressed.
        packed = self.folder / "packed"
        run(ROOT / "packaging" / "deb.sh", packed, env={
            **{name: value for name, value in os.environ.items() if name != "COMPRESSION"},
            "BUILD": os.path.dirname(LOSSD)})
        package, = packed.glob("lossd_*.deb")
        self.assertLessEqual(package.stat().st_size, 10_000_000)
        program = pathlib.Path(LOSSD).read_bytes()
        for name in (b"icudt", b"ucol_open", b"FoundationInternationalization", b"_FoundationICU"):
            self.assertNotIn(name, program)
        self.assertNotRegex(run("ldd", LOSSD).stdout, "libicu|Foundation")

    def test_the_program_is_the_client_where_it_is_called_lossctl(self):
        tree = self.folder / "names"
        run("dpkg-deb", "-x", self.debs["lossd"], tree)
        daemon, client = tree / "usr/sbin/lossd", tree / "usr/bin/lossctl"
        self.assertRegex(run(daemon, "--version").stdout, r"^lossd [0-9.]+\n$")
        self.assertRegex(run(client, "--version").stdout, r"^lossctl [0-9.]+\n$")
        self.assertRegex(run("./lossctl", "--version", cwd=client.parent).stdout, "^lossctl ")
        path = dict(os.environ, PATH=f"{client.parent}:{os.environ['PATH']}")
        self.assertRegex(run("lossctl", "--version", env=path).stdout, "^lossctl ")
        # Any other name, and none, is the daemon's.
        for name in ("lossd", "/opt/lossd-0.2", "xlossctl", "lossctl/", "", "/"):
            self.assertRegex(
                run("bash", "-c", 'exec -a "$0" "$1" --version', name, daemon).stdout,
                "^lossctl " if name == "lossctl/" else "^lossd ", name)
        self.assertIn("lossctl: ", run(client, "dance", check=False).stderr)
        # Also to the kernel, for ps and killall.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{self.folder}/silent.sock")
            listening.listen()
            with subprocess.Popen(
                    [client, "ping", "--server", f"unix:{self.folder}/silent.sock"], stderr=subprocess.DEVNULL) as ping:
                listening.settimeout(20)
                listening.accept()[0].close()
                name = pathlib.Path(f"/proc/{ping.pid}/comm").read_text()
                ping.kill()
            self.assertEqual(name, "lossctl\n")

    def test_a_package_is_the_same_when_it_is_built_again(self):
        again = self.folder / "again"
        run(ROOT / "packaging" / "deb.sh", again, env=dict(
            os.environ, COMPRESSION="none", BUILD=os.path.dirname(LOSSD)))
        for path in self.debs.values():
            self.assertEqual(path.read_bytes(), (again / path.name).read_bytes())


class Units(unittest.TestCase):
    def setUp(self):
        need("systemd-analyze")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-units-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.service = (ROOT / "systemd/lossd.service").read_text().replace("/usr/sbin/lossd", LOSSD)

    def exposure(self, *dropins):
        path = self.folder / "lossd.service"
        path.write_text(self.service + "".join((ROOT / "systemd/dropins" / name).read_text() for name in dropins))
        text = run("systemd-analyze", "security", "--offline=true", path).stdout
        return float(re.search(r"Overall exposure level for lossd.service: ([0-9.]+)", text).group(1))

    def verify(self, *dropins):
        """What systemd has to say about the units with these drop-ins; one is the service's or a socket's."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folder / "lossd.service").write_text(self.service)
        for path in (ROOT / "systemd").glob("*.socket"):
            shutil.copy(path, self.folder)
        (self.folder / "lossd-settings.service").write_text(
            (ROOT / "systemd/lossd-settings.service").read_text().replace("/usr/sbin/lossd", LOSSD))
        for unit, name in dropins:
            (self.folder / f"{unit}.d").mkdir(exist_ok=True)
            shutil.copy(ROOT / "systemd/dropins" / name, self.folder / f"{unit}.d")
        said = []
        # One names keys that are not known but goes on to other units' mistakes, the other the reverse.
        for errors in ("no", "yes"):
            result = run(
                "systemd-analyze", "verify", f"--recursive-errors={errors}", "--man=no", self.folder / "lossd.service",
                self.folder / "lossd-settings.service", *self.folder.glob("*.socket"), check=False)
            said.append((result.returncode, result.stdout + result.stderr))
        return said

    def test_systemd_has_nothing_to_say_about_the_units(self):
        self.assertEqual(self.verify(), [(0, ""), (0, "")])

    def test_every_drop_in_is_listed_for_its_unit_and_systemd_understands_it(self):
        rows = re.findall(
            r"^  (\S+\.conf) +(lossd\S*)", (ROOT / "systemd/dropins/README").read_text(), re.M)
        self.assertEqual(
            {name for name, _ in rows}, {path.name for path in (ROOT / "systemd/dropins").glob("*.conf")})
        version = int(re.search(r"systemd (\d+)", run("systemd-analyze", "--version").stdout).group(1))
        for name, unit in rows:
            if name == "slow-start.conf" and version < 254:
                continue
            self.assertEqual(self.verify((unit, name)), [(0, ""), (0, "")], name)

    def test_the_sandbox_is_as_tight_as_is_said_shipped_and_with_every_drop_in(self):
        self.assertLessEqual(self.exposure(), 0.5)
        for path in (ROOT / "systemd/dropins").glob("*.conf"):
            if "[Service]" not in (text := path.read_text()) or path.name == "slow-start.conf":
                continue
            said = re.search(r"exposure ([0-9]\.[0-9])", text)
            if path.name == "remote-service.conf":
                self.assertEqual(self.exposure("tcp-service.conf", path.name), float(said.group(1)))
            elif said:
                self.assertEqual(self.exposure(path.name), float(said.group(1)), path.name)
            else:
                self.assertEqual(self.exposure(path.name), self.exposure(), path.name)

    def test_the_unit_has_room_for_what_the_limits_allow(self):
        values = dict(re.findall(r"^(\w+)=(\w+)$", self.service, re.M))
        every = settings()
        self.assertGreaterEqual(int(values["LimitNOFILE"]), int(every["limits.connections"][0]) + 1000)
        most = sum(int(every[name][1].split()[-1]) for name in ("workers", "loops"))
        self.assertGreaterEqual(int(values["TasksMax"]), most + 100)
        self.assertGreater(int(values["TimeoutStopSec"].rstrip("s")), int(every["limits.drain_timeout"][0].rstrip("s")))

    def test_a_machine_that_cannot_boot_one_fails_in_ci_and_skips_outside(self):
        tools = self.folder / "bin"
        tools.mkdir()
        for name in ("bash", "dirname", "id"):  # And no systemd-nspawn.
            (tools / name).symlink_to(shutil.which(name))
        script = ROOT / "Tests/System/systemd/run.sh"
        outside = run(script, env={"PATH": str(tools)})
        self.assertIn("SKIPPED: the units are not tested under systemd: ", outside.stdout)
        within = run(script, env={"PATH": str(tools), "CI": "1"}, check=False)
        self.assertEqual(within.returncode, 1)
        self.assertIn("the units cannot be tested here: ", within.stderr)


if __name__ == "__main__":
    unittest.main()
