#!/usr/bin/env python3
"""CPU per request of one route on EML and on its peers, in turns, on this machine.

The route is POST /calls/check: a JWT is checked (signature, issuer, audience, time), its role allows the
act, a JSON body is validated, and a small JSON object comes back; nothing is stored. EML serves its own
route of that name; the peers (bench/peers/*.mjs, nest.ts) do the same with what is usual there.

    cargo build --release && bench/peers/run.py [--seconds 10] [--rounds 5] [--connections 64]

Needs Node 20, npm and wrk (apt-get install wrk). Packages go to target/peers, with the versions of
package.json. CPU is user and system time of the server's process from /proc; requests are counted by the
load generator, over connections that stay open. Every server answers the same probes first: what must be
refused is refused. Prints rows for docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FOLDER = TARGET / "peers"
BODY = json.dumps({
    "to": "+12025550143", "from": "+12025550100", "provider": "twilio",
    "context": {"ticket": "T-1001", "note": "asked to be called back"},
})
# A body that must not be taken, and why.
BAD_BODIES = {
    "no number": {"from": "+12025550100"},
    "a number of another form": {"to": "2025550143"},
    "a value of another type": {"to": 12025550143},
    "an unknown field": {"to": "+12025550143", "admin": True},
    "an unknown provider": {"to": "+12025550143", "provider": "other"},
}
# What each peer is measured for, and how often its CPU per request we aim to be below it.
AIMS = {"Fastify": 3.5, "NestJS, KeyObject": 12.0, "NestJS as it comes": 30.0}
PASSWORD = "seven grey herons over Lund"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, body, token=None):
    """Status and JSON of one POST."""
    headers = {"content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, None


class Server:
    """A server in a process of its own."""

    def __init__(self, name, command, environment, port):
        self.name, self.port = name, port
        self.token, self.refused = None, {}
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, env=os.environ | environment, cwd=FOLDER, stdout=self.log, stderr=self.log,
        )
        self.await_listening()

    def await_listening(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"{self.name} does not start:\n{self.log.read().decode()[-3000:]}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/calls/check"

    def cpu(self):
        """Seconds of CPU so far, of all its threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def probe(self):
        """That it does what it is measured for."""
        def expect(why, wanted, status):
            if status not in wanted:
                sys.exit(f"{self.name}: {why}: {status}, not {wanted}")

        status, answer = ask(self.url, BODY.encode(), self.token)
        expect("a good request", [200], status)
        wanted = {"to": "+12025550143", "from": "+12025550100", "provider": "twilio",
                  "queue_id": None, "agent_id": None}
        if answer != wanted:
            sys.exit(f"{self.name} answers {answer}")
        expect("no token", [401], ask(self.url, BODY.encode())[0])
        tampered = self.token[:-8] + ("A" * 8 if not self.token.endswith("A" * 8) else "B" * 8)
        for why, token in (self.refused | {"changed": tampered}).items():
            expect(f"a token that is {why}", [401], ask(self.url, BODY.encode(), token)[0])
        for why, body in BAD_BODIES.items():
            expect(why, [400, 409, 422], ask(self.url, body, self.token)[0])

    def load(self, seconds, connections):
        """One turn of load: requests, CPU seconds, p50 and p99 in microseconds."""
        environment = os.environ | {"PEERS_BODY": BODY, "PEERS_TOKEN": self.token}
        before = self.cpu()
        told = subprocess.run(
            ["wrk", "-t1", "--timeout", "30s", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "post.lua"), self.url],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout
        used = self.cpu() - before
        result = next(line for line in told.splitlines() if line.startswith("RESULT"))
        requests, refused, lost, p50, p99 = (int(number) for number in result.split()[1:])
        if refused or lost or requests == 0:
            sys.exit(f"{self.name}: of {requests} requests {refused} were refused and {lost} lost\n{told}")
        return requests, used, p50, p99

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def install():
    """The packages of the peers, and their TypeScript as JavaScript."""
    for needed in ("node", "npm", "wrk"):
        if shutil.which(needed) is None:
            sys.exit(f"{needed} is missing")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package.json").read_text()
    installed = FOLDER / "package.json"
    if not installed.exists() or installed.read_text() != wanted or not (FOLDER / "node_modules").exists():
        print("installing the peers", file=sys.stderr)
        installed.write_text(wanted)
        quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        subprocess.run(["npm", "install", *quiet], cwd=FOLDER, check=True, stdout=sys.stderr)
    for source in ("fastify.mjs", "nest.ts", "tokens.mjs", "tsconfig.json"):
        shutil.copy(HERE / source, FOLDER / source)
    subprocess.run(["node_modules/.bin/tsc", "-p", "."], cwd=FOLDER, check=True, stdout=sys.stderr)


def peers():
    """The peers, each with the same tokens."""
    made = subprocess.run(["node", "tokens.mjs"], cwd=FOLDER, check=True, capture_output=True, text=True)
    tokens = json.loads(made.stdout)
    for name, script, own in [
        ("Fastify", "fastify.mjs", {"CACHE": "yes"}),
        ("Fastify that checks each token anew", "fastify.mjs", {}),
        ("NestJS, KeyObject", "nest.js", {"KEY_OBJECT": "yes"}),
        ("NestJS as it comes", "nest.js", {}),
    ]:
        port = free_port()
        own |= {"PORT": str(port), "PUBLIC_KEY": tokens["public_key"], "NODE_ENV": "production"}
        server = Server(name, ["node", script], own, port)
        server.token, server.refused = tokens["good"], tokens["refused"]
        yield server


def eml(binary, folder):
    """A node of EML with one provider and one agent who is signed in."""
    port = free_port()
    own = {
        "EML__SERVER__LISTEN": f"127.0.0.1:{port}",
        "EML__TELEMETRY__LISTEN": "",
        "EML__TELEMETRY__LOG_LEVEL": "warn",
        "EML__NODE__DATA_DIR": str(folder),
        "EML__AUTH__BCRYPT_COST": "4",
        "EML__AUTH__ACCESS_TTL_MS": "7200000",
        "EML__PROVIDERS__TWILIO__KIND": "twilio",
        "EML__PROVIDERS__TWILIO__ACCOUNT_SID": "AC00000000000000000000000000000001",
        "EML__PROVIDERS__TWILIO__AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    }
    password = pathlib.Path(folder) / "password"
    password.write_text(PASSWORD)
    command = [str(binary), "user", "create", "bench", "--role", "agent", "--password-file", str(password)]
    subprocess.run(command, env=os.environ | own, cwd=FOLDER, check=True, stdout=subprocess.DEVNULL)
    server = Server("EML", [str(binary), "serve"], own, port)
    status, signed_in = ask(f"http://127.0.0.1:{port}/auth/login", {"login": "bench", "password": PASSWORD})
    if status != 200:
        sys.exit(f"EML: sign-in: {status}")
    server.token, server.refused = signed_in["access_token"], {"not a token": "abc"}
    return server


def measure(servers, options):
    """CPU microseconds per request, requests per second and latencies of each turn, by server."""
    turns = {server.name: [] for server in servers}
    for server in servers:
        server.load(max(2, options.seconds // 3), options.connections)
    for round_number in range(options.rounds):
        # Each begins another round, so that none has the same neighbour all the time.
        at = round_number % len(servers)
        for server in servers[at:] + servers[:at]:
            requests, used, p50, p99 = server.load(options.seconds, options.connections)
            turn = (used / requests * 1e6, requests / options.seconds, p50, p99)
            turns[server.name].append(turn)
            print(f"round {round_number + 1}: {server.name}: {turn[0]:.1f} µs of CPU per request, "
                  f"{turn[1]:.0f}/s, p99 {p99 / 1000:.1f} ms", file=sys.stderr)
    return turns


def report(turns):
    """Rows for docs/benchmarks.md."""
    median = {name: [statistics.median(column) for column in zip(*of)] for name, of in turns.items()}
    own = median["EML"][0]
    print("| server | CPU per request | least to most | against EML | aim | requests/s | p99 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (cpu, rate, _, p99) in median.items():
        spread = [turn[0] for turn in turns[name]]
        aim = f"≥ {AIMS[name]:g} ×" if name in AIMS else "–"
        print(f"| {name} | {cpu:.1f} µs | {min(spread):.1f} to {max(spread):.1f} µs | {cpu / own:.1f} × | {aim} "
              f"| {rate:.0f} | {p99 / 1000:.1f} ms |")
    for name, aim in AIMS.items():
        found = median[name][0] / own
        print(f"{'met' if found >= aim else 'MISSED'}: {name}: {found:.1f} ×, aim {aim:g} ×", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--connections", type=int, default=64, help="connections that stay open")
    parser.add_argument("--binary", type=pathlib.Path, default=TARGET / "release/eml", help="EML's program")
    options = parser.parse_args()
    if not options.binary.exists():
        sys.exit(f"{options.binary} is missing; cargo build --release makes it")
    install()
    servers = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            servers.append(eml(options.binary.resolve(), folder))
            for server in peers():
                servers.append(server)
            for server in servers:
                server.probe()
            print(f"load average before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
            turns = measure(servers, options)
            print(f"load average after: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        finally:
            for server in servers:
                server.stop()
    report(turns)


if __name__ == "__main__":
    main()
