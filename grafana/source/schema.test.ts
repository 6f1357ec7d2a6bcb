// Checks the JSON files against Grafana's types, and proves with a list of mistakes that it finds errors.

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
  ['a field that a dashboard does not have', '"uid": "millrace-overview"', '"uuid": "millrace-overview"'],
  ['an unsupported kind of panel', '"type": "stat"', '"type": "statt"'],
  ['a panel without a description', '"description": "Events accepted', '"descriptio": "Events accepted'],
  ['an option that a stat does not have', '"graphMode": "area"', '"graphmode": "area"'],
  ['an invalid value of an option', '"graphMode": "area"', '"graphMode": "aria"'],
  ['an option of another kind of panel', '"textMode": "auto"', '"textMode": "auto", "displayMode": "gradient"'],
  ['a number written as text', '"lineWidth": 2', '"lineWidth": "2"'],
  ['a misspelled field of a time series', '"showPoints": "auto"', '"showPoint": "auto"'],
  ['an unknown color mode', '"mode": "palette-classic"', '"mode": "palette-classical"'],
  ['a threshold without a color', '"color": "orange",', ''],
  ['an unknown kind of variable', '"type": "constant"', '"type": "constants"'],
  ['a query to an unknown data source', '"uid": "${prometheus}"', '"uid": "prometheus"'],
];

// The compiler errors of each text. One compilation checks all texts.
function compilerErrors(candidates: Map<string, string>): Map<string, string[]> {
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
    ts.getPreEmitDiagnostics(program, program.getSourceFile(path)).map((error) => ts.flattenDiagnosticMessageText(error.messageText, '\n')),
  ]));
}

test('every dashboard has the type that Grafana publishes', () => {
  assert.ok(texts.size >= 3, 'no dashboards found');
  for (const [name, errors] of compilerErrors(texts)) {
    assert.deepEqual(errors, [], name);
  }
});

test('every mistake in the list is found', () => {
  const broken = new Map(MISTAKES.map(([mistake, right, wrong]) => {
    assert.ok(overview.includes(right), `${right} is not in overview.json`);
    return [mistake, overview.replace(right, () => wrong)];
  }));
  for (const [mistake, errors] of compilerErrors(broken)) {
    assert.notEqual(errors.length, 0, `not found: ${mistake}`);
  }
});
