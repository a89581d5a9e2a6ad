import { indexOfLink, isLinkUp } from "./libc.ts";
import { followLinks, type LinkChange } from "./link-changes.ts";

/** Where the kernel tells of no changes. */
const pollMs = 1_000;

/** Notices that the link of a name has come back: as another one, or up after it was down. */
export class LinkWatch implements Disposable {
  readonly #device: string;
  readonly #onBack: () => boolean;
  readonly #changes: Disposable;
  /** 0 when it is known to be gone. */
  #index: number;
  #isUp: boolean;
  #wasDown = false;

  /** @param onBack false when the link could not be used, so that it is tried again with the next change */
  constructor(device: string, onBack: () => boolean) {
    this.#device = device;
    this.#onBack = onBack;
    this.#changes = this.#follow();
    this.#index = indexOfLink(device);
    this.#isUp = isLinkUp(device);
  }

  #follow(): Disposable {
    try {
      return followLinks((changes) => this.#take(changes));
    } catch {
      // A worker thread, or a sandbox with a kernel of its own.
      const timer = setInterval(() => this.#take([]), pollMs).unref();
      return { [Symbol.dispose]: () => clearInterval(timer) };
    }
  }

  #take(changes: readonly LinkChange[] | undefined): void {
    for (const { index, up, gone } of changes ?? []) {
      if (index !== this.#index) continue;
      if (gone) this.#index = 0;
      else this.#see(up);
    }
    // It may have been anything.
    if (changes === undefined) this.#wasDown = true;
    const index = indexOfLink(this.#device);
    if (index === 0) return;
    this.#see(isLinkUp(this.#device));
    const isBack = index !== this.#index || (this.#wasDown && this.#isUp);
    if (!isBack || !this.#onBack()) return;
    this.#index = index;
    this.#wasDown = false;
  }

  #see(isUp: boolean): void {
    if (this.#isUp && !isUp) this.#wasDown = true;
    this.#isUp = isUp;
  }

  [Symbol.dispose](): void {
    this.#changes[Symbol.dispose]();
  }
}
