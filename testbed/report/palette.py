"""One colour for each protocol, in figures and report; told apart with any colour vision.

Blues, oranges and greens of Okabe and Ito and of Paul Tol's "muted" scheme; neighbours in the
stacking order differ in lightness too.
"""

from __future__ import annotations

COLOURS = {
    "HTTPS": "#0072B2",
    "HTTP": "#D55E00",
    "DNS": "#E69F00",
    "mDNS": "#56B4E9",
    "SSDP": "#CC79A7",
    "NTP": "#009E73",
    "DHCP": "#C9B400",
    "MQTT": "#A8326E",
    "Weave": "#6F4FB8",
    "GCM": "#44AA99",
    "TCP": "#0072B2",
    "UDP": "#E69F00",
    "ICMP": "#CC79A7",
    "ICMPv6": "#AA4499",
    "IGMP": "#009E73",
    "ARP": "#8C8C8C",
    "other": "#BDBDBD",
}
"""By protocol. Transports share colours with applications, beside which they never stand."""

APPLICATION_ORDER = ("HTTPS", "HTTP", "DNS", "NTP", "MQTT", "Weave", "GCM", "mDNS", "SSDP", "DHCP")
TRANSPORT_ORDER = ("TCP", "UDP", "ICMP", "IGMP", "ARP", "ICMPv6", "other")
WHOLE_ORDER = (*APPLICATION_ORDER, "ICMP", "IGMP", "ARP", "TCP", "UDP", "ICMPv6", "other")
SENT, RECEIVED = "#0072B2", "#D55E00"

WHOLE_COLOURS = {**COLOURS, "TCP": "#6699CC", "UDP": "#DDCC77", "ICMP": "#AA4499", "IGMP": "#2E8B57"}
"""Where applications and transports stand side by side."""
