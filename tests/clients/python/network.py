"""Nodes in network namespaces of their own on one bridge. The link between any two of them, or between a node and the
clients, is cut one way or both ways. It needs root, `ip`, `nsenter` and `iptables`.

Packets that a cut drops are not answered, so that a connection over a cut link hangs and does not end.
"""

import atexit
import os
import subprocess

# The clients, which are in the namespace of this program.
CLIENTS = 0
# The first two numbers of every address. The third is one that no other network of this machine has.
PREFIX = "10.213"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def free_prefix():
    """The first three numbers of the addresses of a network that this machine does not have yet."""
    routes = run("ip", "route", "show")
    return next(prefix for number in range(1, 255) if f"{(prefix := f'{PREFIX}.{number}')}." not in routes)


class Network:
    """A bridge with the clients' address. It is removed when the program ends; a program that ends by `os._exit` calls
    `close` before."""

    def __init__(self):
        self.name = f"hw{os.getpid() % 100_000}"
        self.prefix = free_prefix()
        self.addresses = {CLIENTS: f"{self.prefix}.254"}
        atexit.register(self.close)
        run("ip", "link", "add", self.name, "type", "bridge")
        run("ip", "address", "add", f"{self.addresses[CLIENTS]}/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")

    def add(self, node):
        """Makes the namespace of a node, and returns its address."""
        namespace, outer = self.namespace(node), f"{self.name}-{node}"
        self.addresses[node] = f"{self.prefix}.{node}"
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", outer, "master", self.name, "up")
        for command in (["address", "add", f"{self.addresses[node]}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                        ["link", "set", "lo", "up"]):
            run("ip", "-n", namespace, *command)
        return self.addresses[node]

    def namespace(self, node):
        return f"{self.name}-{node}"

    def within(self, node):
        """The command before another one, which runs that one in the namespace of a node."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(node)}"] if node != CLIENTS else []

    def cut(self, sender, receiver):
        """Drops what one node sends to another."""
        self.change("-A", sender, receiver)

    def mend(self, sender, receiver):
        self.change("-D", sender, receiver)

    def change(self, how, sender, receiver):
        # at the receiver, because the clients' namespace has other traffic
        node, rule = (receiver, ["INPUT", "-s"]) if receiver != CLIENTS else (sender, ["OUTPUT", "-d"])
        other = sender if node == receiver else receiver
        run(*self.within(node), "iptables", "-w", how, *rule, self.addresses[other], "-j", "DROP")

    def close(self):
        for node in self.addresses:
            if node != CLIENTS:
                subprocess.run(["ip", "netns", "del", self.namespace(node)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)
