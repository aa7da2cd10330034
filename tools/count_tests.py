#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py JUNIT_XML: counts every test case of a run and prints "N passed, N failed", naming the failed ones first.

Exits with 1 when a test failed or when none ran at all.
"""
import sys
import xml.etree.ElementTree as tree


def main(path):
    passed, skipped, failed = 0, 0, []
    for case in tree.parse(path).getroot().iter("testcase"):
        name = "%s: %s" % (case.get("classname", ""), case.get("name"))
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None:
            skipped += 1
            print("skipped: " + name)
        else:
            passed += 1
    for name in failed:
        print("FAILED: " + name)
    tail = ", %d skipped" % skipped if skipped else ""
    print("%d passed, %d failed%s" % (passed, len(failed), tail))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
