"""Captures in and out: frame tables from files of many kinds, pcap and labels to disk."""
