#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py BUILD: counts every test case of the run in BUILD and prints "N passed, N failed", the failed ones first.

meson's own report has the GoogleTest cases one by one and each other program as one; pytest's reports (<name>.xml beside
the test's build folder) take the place of their program's line. Exits with 1 when a test failed or none ran; with CI set
in the environment also when one was skipped for want of something that tools/setup installs.
"""
import glob
import os
import re
import sys
import xml.etree.ElementTree as tree


# what a machine may lack: the user, the kernel, a compiler that is no dependency
MAY_LACK = re.compile(r"\broot\b|kernel|Landlock|Rust|no such thing", re.IGNORECASE)


def skipped_outcome(skipped):
    why = skipped.get("message") or skipped.text or ""  # pytest's text begins with the file's path, which is no reason
    return "failed" if os.environ.get("CI") and not MAY_LACK.search(why) else "skipped"


def cases_of(path):
    for case in tree.parse(path).getroot().iter("testcase"):
        name = "%s: %s" % (case.get("classname", ""), case.get("name"))
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, "failed"
        elif case.find("skipped") is not None:
            yield name, skipped_outcome(case.find("skipped"))
        else:
            yield name, "passed"


def main(build):
    report = os.path.join(build, "meson-logs", "testlog.junit.xml")
    started = os.path.getmtime(os.path.join(build, "meson-logs", "started"))
    pytest = [p for p in glob.glob(os.path.join(build, "tests", "**", "*.xml"), recursive=True)
              if os.path.getmtime(p) >= started]
    inside = {os.path.splitext(os.path.basename(p))[0] for p in pytest}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    told = []
    for path in [report] + pytest:
        for name, outcome in cases_of(path):
            short = name.rsplit(" ", 1)[-1].split("_", 1)[-1]
            if path == report and outcome == "passed" and short in inside:
                continue  # its cases are counted one by one
            counts[outcome] += 1
            if outcome != "passed":
                told.append("%s: %s" % (outcome.upper(), name))
    print("\n".join(sorted(set(told))))
    tail = ", %d skipped" % counts["skipped"] if counts["skipped"] else ""
    print("%d passed, %d failed%s" % (counts["passed"], counts["failed"], tail))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
