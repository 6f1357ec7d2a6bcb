// The calls that a program makes of an SDK, and what the store must contain of each.
import { writeFileSync } from "node:fs";

export class CallList {
  constructor(sdk, family) {
    Object.assign(this, { sdk, family, expected: [], errors: [] });
  }

  // The properties by which the row of the next call is found. The columns are those that it must have.
  row(columns) {
    return this.#add({ row: columns });
  }

  dead(code) {
    return this.#add({ dead: code });
  }

  #add(outcome) {
    const name = `${this.sdk} ${this.expected.length}`;
    this.expected.push({ case: name, family: this.family, ...outcome });
    return { case: name };
  }

  // Writes what is expected. Ends the program with an error if the SDK reported one.
  write(file) {
    writeFileSync(file, JSON.stringify(this.expected));
    if (this.errors.length > 0) {
      console.error(`error: the SDK did not deliver calls: ${this.errors.join("; ")}`);
      process.exit(1);
    }
  }
}
