"""`otp run`: an application in the foreground, its signals and its exit codes."""

import os
import select
import signal

import psutil
import pytest

from tests.cluster.certificates import make_certificate, needs_openssl
from tests.cluster.nats_server import nats_server

pytestmark = pytest.mark.slow  # each test starts programs


class TestStart:
    @pytest.mark.parametrize(
        ("app", "names"),
        [
            ("shop:spec", {"counter"}),
            ("shop:children", {"counter", "polite"}),
            ("shop:Shop", {"counter", "polite"}),
            ("shop:make_children", {"counter", "polite"}),
            ("shop:shop", {"shop", "counter", "polite"}),
            ("shop:quiet", {"counter", "polite"}),
            ("shop:lone", {"lone"}),
            ("shop:Store", {"application_controller", "depot", "till"}),
        ],
    )
    def test_forms_of_an_app(self, terminal, app, names):
        """A spec, a list, a Supervisor, a function that gives one of these, a pid or only starts the tree."""
        with terminal.run(app) as running:
            found = {one["name"] for one in terminal.json("ps")} - {None}
            running.send(signal.SIGTERM)

            assert 0 == running.finish()
        assert names == found

    def test_settings_of_an_application(self, terminal, tmp_path):
        """From a file and from the environment."""
        config = tmp_path / "config.toml"
        config.write_text("[store]\ntill = 7\n[depot]\ndepot = 8\n", encoding="utf-8")
        terminal.environment["OTP_DEPOT_DEPOT"] = "9"
        with terminal.run("shop:Store", "--config", str(config)):
            found = [terminal.json("call", name, "val")["reply"] for name in ("till", "depot")]

        assert [7, 9] == found

    def test_settings_that_cannot_be_read(self, terminal):
        """Are exit code 1, in one line."""
        done = terminal.otp("run", "shop:Store", "--config", "/no/such/file")

        assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
        assert "/no/such/file" in done.stderr

    def test_an_application_that_gives_up(self, terminal):
        """Is the end of the command, as of any tree."""
        with terminal.run("shop:Store") as running:
            terminal.otp("kill", "till")

            assert 4 == running.finish()

    def test_an_application_that_it_needs_gives_up(self, terminal):
        """Is too: all of them are permanent."""
        with terminal.run("shop:Store") as running:
            terminal.otp("kill", "depot")

            assert 4 == running.finish()

    @pytest.mark.parametrize(
        "app", ["shop", "shop:", "nowhere:app", "shop:missing", "shop:number", "shop:nothing", "shop:Library"]
    )
    def test_wrong_usage(self, terminal, app):
        """What is no application is exit code 2, in one line."""
        done = terminal.otp("run", app)

        assert 2 == done.returncode
        assert 1 == len(done.stderr.splitlines())

    def test_failed_start(self, terminal):
        """A tree that cannot start is exit code 1, with the reason."""
        done = terminal.otp("run", "shop:broken")

        assert 1 == done.returncode
        assert "no luck" in done.stderr

    def test_name_is_taken(self, terminal):
        """A second node of a name does not start."""
        with terminal.run("shop:spec", "--name", "same"):
            done = terminal.otp("run", "shop:spec", "--name", "same")

        assert 1 == done.returncode
        assert "running" in done.stderr

    def test_reports_go_to_standard_error(self, terminal):
        """Logging is set up where the application did not."""
        with terminal.run("shop:spec") as running:
            terminal.otp("cast", "counter", "boom")
            running.send(signal.SIGTERM)
            assert 0 == running.finish()

            assert b"ValueError: boom" in running.process.stderr.read()


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_signal_stops_in_reverse_order(self, terminal, number):
        """The last started ends first; a progress line before, one after; exit code 0."""
        with terminal.run("shop:polite") as running:
            running.send(number)
            code = running.finish()

        assert 0 == code
        ends = [line for line in running.lines if "ends" in line]
        assert ["3 ends: shutdown", "2 ends: shutdown", "1 ends: shutdown"] == ends
        assert signal.Signals(number).name in running.lines[1]
        assert "otp: stopped" == running.lines[-1]

    def test_second_interrupt_kills_everything(self, terminal):
        """Also what refuses to stop: no process and no file is left; exit code 1."""
        with terminal.run("shop:stubborn") as running:
            watched = [os.pidfd_open(one["os_pid"]) for one in terminal.json("ps") if one["kind"] != "program"]
            running.send(signal.SIGINT)
            running.wait_line("no")
            running.send(signal.SIGINT)
            code = running.finish()

        assert 1 == code
        assert "otp: killed" == running.lines[-1]
        for pidfd in watched:
            assert select.select([pidfd], [], [], 5)[0]
            os.close(pidfd)
        assert [] == os.listdir(terminal.directory)

    def test_stopped_from_another_terminal(self, terminal):
        """The root was asked to end: exit code 0."""
        with terminal.run("shop:shop") as running:
            assert 0 == terminal.otp("stop", "shop").returncode
            assert 0 == running.finish()


class TestGivingUp:
    def test_too_many_restarts(self, terminal):
        """Exit code 4, and which supervisor gave up."""
        with terminal.run("shop:fragile") as running:
            terminal.otp("kill", "counter")

            assert 4 == running.finish()
            assert b"the tree gave up: fragile" in running.process.stderr.read()

    def test_root_is_killed(self, terminal):
        """An abnormal end of the root is the tree's."""
        with terminal.run("shop:shop") as running:
            os.kill(next(one["os_pid"] for one in terminal.json("ps") if one["name"] == "shop"), signal.SIGKILL)

            assert 4 == running.finish()
            assert b"SIGKILL" in running.process.stderr.read()

    def test_node_is_killed(self, terminal):
        """With its guard the node ends, and the application with it."""
        with terminal.run("shop:shop") as running:
            (guard,) = psutil.Process(running.process.pid).children()
            guard.kill()

            assert 4 == running.finish()
            assert b"Traceback" not in running.process.stderr.read()


SERVER = """\
listen: "127.0.0.1:-1"
ports_file_dir: "{path}"
jetstream {{ store_dir: "{path}/store" }}
tls {{ cert_file: "{path}/cert.pem", key_file: "{path}/key.pem", ca_file: "{path}/ca.pem", verify: true }}
authorization {{ user: "me", password: "p:w" }}
"""


@needs_openssl
class TestCluster:
    def test_credentials_and_tls(self, terminal, tmp_path):
        """From files: a cluster that asks for both is joined, and refused with others."""
        make_certificate(tmp_path)
        (tmp_path / "conf").write_text(SERVER.format(path=tmp_path))
        (tmp_path / "right").write_text("me:p:w\n")
        (tmp_path / "wrong").write_text("me:other\n")
        tls = ",".join(f"{name}={tmp_path}/{name}.pem" for name in ("ca", "cert", "key"))
        with nats_server(tmp_path) as url:
            where = ("--name", "a", "--cluster", url, "--tls", tls, "--credentials")
            with terminal.run("shop:lone", *where, str(tmp_path / "right")) as running:
                running.send(signal.SIGTERM)
                assert 0 == running.finish()
            refused = terminal.otp("run", "shop:lone", *where, str(tmp_path / "wrong"))

        assert (1, True) == (refused.returncode, "refused the credentials of this node" in refused.stderr)

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (("--tls", "ca"), "--tls is ca=FILE,cert=FILE,key=FILE, not 'ca'"),
            (("--tls", "ca=x,to=y"), "tls is a dict of paths"),
            (("--credentials", "nowhere"), "the credentials cannot be read"),
            (("--credentials", "shop.py"), "is no NATS credentials file, and not one line user:password"),
        ],
    )
    def test_bad_input(self, terminal, words, text):
        """Says what is wrong."""
        done = terminal.otp("run", "shop:lone", "--cluster", "nats://127.0.0.1:1", *words)

        assert text in done.stderr
