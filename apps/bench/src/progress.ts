/** Tells a person what is going on, on one line at a time. */
export interface Progress {
  /** A new part begins. */
  part(what: string): void;
  /** How far it is. */
  done(count: number, of: number): void;
}

const everyMs = 2_000;

export class ProgressLines implements Progress {
  readonly #write: (line: string) => void;
  readonly #startedAt = performance.now();
  #what = "";
  #toldAt = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  part(what: string): void {
    this.#what = what;
    this.#tell("");
  }

  done(count: number, of: number): void {
    if (performance.now() - this.#toldAt < everyMs) return;
    this.#tell(`: ${count.toLocaleString("en")} of ${of.toLocaleString("en")}`);
  }

  #tell(detail: string): void {
    this.#toldAt = performance.now();
    const seconds = ((performance.now() - this.#startedAt) / 1_000).toFixed(0);
    this.#write(`${seconds.padStart(4)} s  ${this.#what}${detail}`);
  }
}

export const silent: Progress = { part() {}, done() {} };
