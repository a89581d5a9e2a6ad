import type { ControllerEvent } from "./controller-event.ts";

/** Events of one process, for any number of readers; each reads from when it began. */
export class EventStream {
  readonly #readers = new Set<(event: ControllerEvent | undefined) => void>();
  #closed = false;

  push(event: ControllerEvent): void {
    for (const read of this.#readers) read(event);
  }

  /** Ends every reader, once it has what came before. */
  close(): void {
    this.#closed = true;
    for (const read of this.#readers) read(undefined);
  }

  /**
   * What is told from this call on. A reader that does not keep up holds what it has not read yet, up to `limit`; then
   * the oldest go, so that a forgotten reader does no harm. Ends with the stream, and when the signal aborts.
   */
  read(signal: AbortSignal | undefined, limit = 10_000): AsyncIterable<ControllerEvent> {
    const waiting: ControllerEvent[] = [];
    let ended = this.#closed || (signal?.aborted ?? false);
    let wake = () => {};
    const read = (event: ControllerEvent | undefined) => {
      if (event) waiting.push(event);
      else ended = true;
      if (waiting.length > limit) waiting.shift();
      wake();
    };
    const stop = () => {
      this.#readers.delete(read);
      signal?.removeEventListener("abort", onAbort);
    };
    const onAbort = () => {
      stop();
      read(undefined);
    };
    if (!ended) {
      this.#readers.add(read);
      signal?.addEventListener("abort", onAbort, { once: true });
    }
    return (async function* () {
      try {
        for (;;) {
          const event = waiting.shift();
          if (event) yield event;
          else if (ended) return;
          else {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        }
      } finally {
        stop();
      }
    })();
  }
}
