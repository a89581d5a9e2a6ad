// The guests in a process of their own, in the namespace where it was started: one JSON line for each request.
import { createInterface } from "node:readline";
import { describeError } from "@cocoon-net/core";
import { type GuestsOptions, type Outcome, RelayedGuests } from "./relayed-guests.ts";

export type Asked =
  | { readonly what: "lease"; readonly rate: number }
  | { readonly what: "renew"; readonly rate: number; readonly seconds: number };
export type Told = { readonly outcome: Outcome } | { readonly failed: string };

async function serve(options: GuestsOptions): Promise<void> {
  using guests = new RelayedGuests(options);
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(answer(guests, JSON.parse(line) as Asked)));
  }
}

function answer(guests: RelayedGuests, asked: Asked): Told {
  try {
    const isLease = asked.what === "lease";
    return { outcome: isLease ? guests.lease(asked.rate) : guests.renew(asked.rate, asked.seconds) };
  } catch (error) {
    return { failed: describeError(error) };
  }
}

const [options] = process.argv.slice(2);
if (import.meta.main && options !== undefined) await serve(JSON.parse(options) as GuestsOptions);
