"""Writes what tshark says of each frame as predictions: score_tshark.py CAPTURE > predictions.csv"""

from __future__ import annotations

import csv
import subprocess
import sys

ROUTER = "20:4e:7f:36:00:02"
NAMES = {"MDNS": "mDNS", "IGMPv2": "IGMP", "IGMPv3": "IGMP"}
COLUMNS = '"number","%m","sender","%uhs","protocol","%p","receiver","%uhd"'

command = ["tshark", "-r", sys.argv[1], "-T", "tabs", "-o", f"gui.column.format:{COLUMNS}"]
lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
out = csv.writer(sys.stdout)
out.writerow(["frame", "protocol", "device"])
for number, sender, protocol, receiver in (line.split("\t") for line in lines):
    name = "HTTPS" if protocol.startswith(("TLS", "SSL")) else NAMES.get(protocol, protocol)
    to_one = not int(receiver[:2], 16) & 1
    out.writerow([number.strip(), name, receiver if sender == ROUTER and to_one else sender])
