import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";
import { codeOf, SystemCallError } from "./kernel-errors.ts";
import { closeSocket, openLinkSocket, receive } from "./libc.ts";
import { decodeMessages } from "./netlink-message.ts";
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from "./rtnetlink.ts";

export interface LinkChange extends Link {
  /** It exists no more. */
  readonly gone: boolean;
}

/** Given what has changed, in order; undefined when the kernel had to drop some of it. */
export type OnLinkChanges = (changes: readonly LinkChange[] | undefined) => void;

/**
 * Node cannot wait for a netlink socket, but for a signal. This one the kernel sends for nothing else that Node does, and
 * it is ignored where nobody listens, unlike SIGIO and the real-time ones; other listeners of it are called for nothing.
 */
const signal = "SIGURG";
/** More than the kernel says about one link. */
const RECEIVE_BYTES = 64 * 1024;
const AF_UNSPEC = 0;

/** One socket is enough for a process. */
let feed: LinkFeed | undefined;

/**
 * Calls `onChanges` whenever a link is made, changed or deleted; costs nothing in between.
 * @throws {SystemCallError} where the kernel does not tell; in a worker thread, which gets no signals
 */
export function followLinks(onChanges: OnLinkChanges): Disposable {
  if (!isMainThread) throw new SystemCallError("sigaction", "ENOTSUP");
  feed ??= new LinkFeed();
  return feed.add(onChanges);
}

class LinkFeed {
  readonly #fd: number;
  readonly #followers = new Set<OnLinkChanges>();
  readonly #buffer: Buffer = Buffer.alloc(RECEIVE_BYTES);
  readonly #onSignal = (): void => this.#readAll();

  constructor() {
    this.#fd = openLinkSocket(constants.signals[signal]);
    process.on(signal, this.#onSignal);
  }

  add(onChanges: OnLinkChanges): Disposable {
    this.#followers.add(onChanges);
    return {
      [Symbol.dispose]: () => {
        if (this.#followers.delete(onChanges) && this.#followers.size === 0) this.#close();
      },
    };
  }

  /** Several signals that come together are one. */
  #readAll(): void {
    const changes: LinkChange[] = [];
    let isComplete = true;
    for (;;) {
      try {
        const length = receive(this.#fd, this.#buffer);
        for (const { type, payload } of decodeMessages(this.#buffer.subarray(0, length))) {
          // Bridges speak of their ports with messages of the same types.
          if ((type !== RTM_NEWLINK && type !== RTM_DELLINK) || payload[0] !== AF_UNSPEC) continue;
          changes.push({ ...decodeLink(payload), gone: type === RTM_DELLINK });
        }
      } catch (error) {
        if (codeOf(error) === "EAGAIN") break;
        isComplete = false;
        // What did arrive is still there.
        if (codeOf(error) !== "ENOBUFS" && codeOf(error) !== "EMSGSIZE") break;
      }
    }
    if (isComplete && changes.length === 0) return;
    for (const follower of [...this.#followers]) follower(isComplete ? changes : undefined);
  }

  #close(): void {
    feed = undefined;
    closeSocket(this.#fd);
    process.off(signal, this.#onSignal);
  }
}
