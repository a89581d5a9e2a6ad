/** A client retransmits; more than this many of its messages need not be remembered while one is served. */
const mostWaiting = 4;
/**
 * Clients that are served at a time. What comes when so many wait, for the disk above all, would be answered too late to be
 * of use, and would make all others later.
 */
const mostBusy = 8192;

/** The clients of whom a message is being served, and their messages that wait for it: one client's are served in order. */
export class BusyClients<Message> {
  readonly #waiting = new Map<string, Message[] | undefined>();

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  get isFull(): boolean {
    return this.#waiting.size >= mostBusy;
  }

  has(client: string): boolean {
    return this.#waiting.has(client);
  }

  add(client: string): void {
    if (!this.#waiting.has(client)) this.#waiting.set(client, undefined);
  }

  /** False when enough messages of the client wait. */
  wait(client: string, message: Message): boolean {
    const waiting = this.#waiting.get(client);
    if (waiting === undefined) this.#waiting.set(client, [message]);
    else if (waiting.length < mostWaiting) waiting.push(message);
    else return false;
    return true;
  }

  /** What is to be served next; when there is nothing, the client is not busy any more. */
  next(client: string): Message | undefined {
    const message = this.#waiting.get(client)?.shift();
    if (message === undefined) this.#waiting.delete(client);
    return message;
  }

  /** What waits is not served any more. */
  dropWaiting(): void {
    for (const client of this.#waiting.keys()) this.#waiting.set(client, undefined);
  }
}
