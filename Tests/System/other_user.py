"""Another user of the machine: calls GetStatus again and again and says how long each took.

    other_user.py ADDRESS UID        prints a line of JSON when its standard input ends

UID: the user to become, or - for none. Fresh connections and one that stays take turns.
"""

import json
import os
import sys
import threading
import time

from wire import DAEMON_STATUS, Connection


def main():
    address, uid = sys.argv[1:]
    if uid != "-":
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    times, failures = [], []
    staying = Connection(address)
    print("ready", flush=True)
    while not ended.is_set():
        start = time.perf_counter()
        try:
            if len(times) % 2:
                staying.call(DAEMON_STATUS)
            else:
                with Connection(address) as fresh:
                    fresh.call(DAEMON_STATUS)
        except Exception as error:  # noqa: BLE001  whatever it is, the other user was disturbed
            failures.append(repr(error))
            break
        times.append(time.perf_counter() - start)
        time.sleep(0.005)
    print(json.dumps({"times": times, "failures": failures}), flush=True)


if __name__ == "__main__":
    main()
