// What Grafana reads is held to Grafana's own types, as it stands in the files; and so that this is known to find something,
// each of a list of mistakes must be found.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const SOURCE = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../dashboards/', import.meta.url));
const texts = new Map(readdirSync(FOLDER).map((name) => [name, readFileSync(FOLDER + name, 'utf8')]));
const overview = texts.get('overview.json')!;

const MISTAKES: [string, string, string][] = [
  ['a field no dashboard has', '"uid": "millrace-overview"', '"uuid": "millrace-overview"'],
  ['a kind of panel we hold to nothing', '"type": "stat"', '"type": "statt"'],
  ['a panel without a description', '"description": "Events answered', '"descriptio": "Events answered'],
  ['an option no stat has', '"graphMode": "area"', '"graphmode": "area"'],
  ['a value that option cannot have', '"graphMode": "area"', '"graphMode": "aria"'],
  ['an option of another kind of panel', '"textMode": "auto"', '"textMode": "auto", "displayMode": "gradient"'],
  ['a number written as text', '"lineWidth": 2', '"lineWidth": "2"'],
  ['a field of a graph that is none', '"showPoints": "auto"', '"showPoint": "auto"'],
  ['an unknown way to colour', '"mode": "palette-classic"', '"mode": "palette-classical"'],
  ['a level without a colour', '"color": "orange",', ''],
  ['an unknown kind of variable', '"type": "constant"', '"type": "constants"'],
  ['a query to no data source of ours', '"uid": "${prometheus}"', '"uid": "prometheus"'],
];

// What the compiler says of each of these texts, all judged in one go.
function complaints(candidates: Map<string, string>): Map<string, string[]> {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
    types: [],
  };
  const files = new Map([...candidates].map(([name, json], index) => [
    `${SOURCE}candidate-${index}.ts`,
    { name, text: `import type { MillraceDashboard } from './schema.js';\nexport const candidate: MillraceDashboard = ${json};\n` },
  ]));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.readFile = (path) => files.get(path)?.text ?? readFile(path);
  host.getSourceFile = (path, version, ...more) => {
    const file = files.get(path);
    return file === undefined ? getSourceFile(path, version, ...more) : ts.createSourceFile(path, file.text, version);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return new Map([...files].map(([path, { name }]) => [
    name,
    ts.getPreEmitDiagnostics(program, program.getSourceFile(path)).map((found) => ts.flattenDiagnosticMessageText(found.messageText, '\n')),
  ]));
}

test('every dashboard is what Grafana publishes a dashboard to be', () => {
  assert.ok(texts.size >= 3, 'the dashboards were not found');
  for (const [name, found] of complaints(texts)) {
    assert.deepEqual(found, [], name);
  }
});

test('mistakes are found', () => {
  const spoilt = new Map(MISTAKES.map(([what, right, wrong]) => {
    assert.ok(overview.includes(right), `${right} is not in overview.json`);
    return [what, overview.replace(right, () => wrong)];
  }));
  for (const [what, found] of complaints(spoilt)) {
    assert.notEqual(found.length, 0, `nobody noticed ${what}`);
  }
});
