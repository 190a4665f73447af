"""Whole conversations with a daemon, made of a seed: many connections that do everything which the protocol allows, and
much which it does not, at once. `Peer` is a connection that knows what the daemon may say next; `Chaos` does the talking.
"""
