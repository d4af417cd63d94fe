"""Build the home as an ordinary Mininet network, ping across it, and fetch a page from a service.

Run as root: python mininet_home.py
"""

from mininet.net import Mininet
from mininet.nodelib import LinuxBridge

from testbed.emulation.topo import HomeTopo

Mininet.inited = True  # Mininet would raise limits of the whole machine; this network is small
topo = HomeTopo("home")
net = Mininet(topo=topo, switch=LinuxBridge, controller=None)
net.start()
try:
    plug, router = net.get("hs110_plug", "router")
    print("plug to router:", plug.cmd(f"ping -c 1 -W 2 {router.IP()} | grep received").strip())
    for name in ("devs.tplinkcloud.com", "time-a.nist.gov"):
        address = topo.names[name][0]
        print(f"plug to {name}:", plug.cmd(f"ping -c 1 -W 2 {address} | grep received").strip())

    cloud = net.get("svc_tplink_cloud")
    cloud.cmd("python3 -m http.server 80 --directory /usr/share/doc >/dev/null 2>&1 &")
    fetch = f"import urllib.request; print(urllib.request.urlopen('http://{cloud.IP()}').status)"
    print("a page of the cloud:", plug.cmd(f'sleep 1; python3 -c "{fetch}"').strip())
finally:
    net.stop()
