import type { AddressProbe } from "./ports.ts";

const knownFreeMs = 30_000;
const atOnce = 64;

/** Asks the link whether an address is in use before it is offered, and remembers for 30 s that it was not. */
export class OfferProbe {
  readonly #probe: AddressProbe;
  readonly #onError: (error: unknown) => void;
  /** Until when an address counts as free. Holds at most the pool. */
  readonly #freeUntil = new Map<string, number>();
  #running = 0;
  #isFailing = false;

  /** @param onError called when probes begin to fail; offers then go out without */
  constructor(probe: AddressProbe, onError: (error: unknown) => void) {
    this.#probe = probe;
    this.#onError = onError;
  }

  isKnownFree(ip: string, now: number): boolean {
    return (this.#freeUntil.get(ip) ?? 0) > now;
  }

  /** More would wait too long: the client asks again. */
  get isBusy(): boolean {
    return this.#running >= atOnce;
  }

  /** @returns the MAC of somebody other than `mac` who uses the address. Never rejects. */
  async userOf(ip: string, mac: string, now: number): Promise<string | undefined> {
    this.#running++;
    try {
      const user = await this.#probe.probe(ip);
      this.#isFailing = false;
      if (user !== undefined && user !== mac) return user;
    } catch (error) {
      if (!this.#isFailing) this.#onError(error);
      this.#isFailing = true;
    } finally {
      this.#running--;
    }
    this.#freeUntil.set(ip, now + knownFreeMs);
    return undefined;
  }
}
