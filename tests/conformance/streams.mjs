// A stream of an answer, read chunk by chunk, each with the instant at which it came.

/** POSTs a request and gives what was answered as it comes: `until` resolves once what came so far fulfils it. */
export async function openStream(url, accept, body, { method = 'POST' } = {}) {
  const abort = new AbortController();
  const response =
    method === 'GET'
      ? await fetch(`${url}?${new URLSearchParams({ query: body.query, variables: JSON.stringify(body.variables ?? {}) })}`, {
          headers: { accept },
          signal: abort.signal,
        })
      : await fetch(url, {
          method,
          headers: { accept, 'content-type': 'application/json' },
          body: JSON.stringify(body),
          signal: abort.signal,
        });
  const decoder = new TextDecoder();
  let text = '';
  let ended = false;
  let wake = () => {};
  const reading = (async () => {
    try {
      for await (const chunk of response.body) {
        text += decoder.decode(chunk, { stream: true });
        wake();
      }
    } catch (error) {
      if (!abort.signal.aborted) throw error;
    } finally {
      ended = true;
      wake();
    }
  })();
  return {
    response,
    text: () => text,
    ended: () => reading.then(() => text),
    close: () => abort.abort(),
    /** Waits, at most so long, until the predicate holds of the text so far. */
    async until(predicate, milliseconds, what) {
      const deadline = Date.now() + milliseconds;
      while (!predicate(text)) {
        const left = deadline - Date.now();
        if (ended || left <= 0) throw new Error(`not within ${milliseconds} ms: ${what}\n${text}`);
        let timer;
        await new Promise((go) => {
          wake = go;
          timer = setTimeout(go, left);
        });
        clearTimeout(timer);
      }
      return text;
    },
  };
}

/** The complete events of an event stream so far. */
export function events(text) {
  const blocks = text.split('\n\n').slice(0, -1);
  return blocks
    .filter((block) => !block.startsWith(':'))
    .map((block) => {
      const event = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: ?(.*)$/m.exec(block)?.[1];
      return { event, ...(data ? { data: JSON.parse(data) } : {}), hasData: data !== undefined };
    });
}

/** The parts of a multipart body so far that a reader who waits for the delimiter can have. */
export function parts(text) {
  const pieces = text.split('\r\n--graphql');
  return pieces
    .slice(1, -1)
    .map((piece) => piece.split('\r\n\r\n').slice(1).join('\r\n\r\n'))
    .map((json) => JSON.parse(json));
}

/** A plain request. */
export async function request(url, query, variables = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

export const SUBMIT = `mutation Submit($input: SubmitJobInput!) { submitJob(input: $input) { created job { id status } } }`;
export const WATCH = `subscription Watch($id: ID!) { jobUpdated(id: $id) { id status version result } }`;
export const CANCEL = `mutation Cancel($id: ID!) { cancelJob(id: $id) { id status } }`;

/** A job that waits for its time, and so does nothing until it is told to. */
export async function waitingJob(url) {
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  const data = await request(url, SUBMIT, { input: { kind: 'echo', runAt } });
  return data.submitJob.job.id;
}
