// Runs operations of a client one after the other, and prints a line of JSON for each: {operation, passed, error}.
// The tests find the names of operations in the scripts: `await operation("<name>", ...` at the beginning of a line.

export async function operation(name, run) {
  let error = "";
  try {
    await run();
  } catch (thrown) {
    error = `${thrown.status ?? thrown.name ?? ""} ${thrown.message ?? thrown}`.slice(0, 1000);
  }
  console.log(JSON.stringify({ operation: name, passed: error === "", error }));
}

export function equal(found, expected) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
  }
}

export function holds(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

/** Require that `run` fails with an error whose text matches. */
export async function fails(run, pattern) {
  try {
    await run();
  } catch (thrown) {
    const text = [thrown].flat().map((one) => `${one.status ?? ""} ${one.errorCode ?? ""} ${one.message}`).join(" ");
    holds(pattern.test(text), `${text} matches ${pattern}`);
    return;
  }
  throw new Error("no error");
}
