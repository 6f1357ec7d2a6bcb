"""The calls that a program makes of an SDK, and what the store must contain of each."""

import json
import sys


class CallList:
    """Numbers the calls, and notes the expected row or dead letter of each."""

    def __init__(self, sdk, family):
        self.sdk, self.family = sdk, family
        self.expected, self.errors = [], []

    def row(self, **columns):
        """The properties by which the row of the next call is found. The columns are those that it must have."""
        case = f"{self.sdk} {len(self.expected)}"
        self.expected.append({"case": case, "family": self.family, "row": columns})
        return {"case": case}

    def dead(self, code):
        case = f"{self.sdk} {len(self.expected)}"
        self.expected.append({"case": case, "family": self.family, "dead": code})
        return {"case": case}

    def write(self, file):
        """Writes what is expected. Ends the program with an error if the SDK reported one."""
        with open(file, "w", encoding="utf-8") as output:
            json.dump(self.expected, output)
        if self.errors:
            sys.exit(f"error: the SDK did not deliver calls: {self.errors}")
