import { expect, it } from "vitest";
import { storedLease, withBook } from "./support/builtin-book.ts";

// Catalogue 17. Guard: apps/agent/src/builtin-lease-book.ts, BuiltinLeaseBook.setAside: only what nobody has leaves
// the pool.
it("an address that a guest has is not set aside, however many are asked for", () =>
  withBook(async (book) => {
    await book.adopt(new Map([["10.7.0.3", storedLease("02:00:00:00:00:01")]]));
    expect(book.setAside(3)).toEqual(["10.7.0.2", "10.7.0.4"]);
    expect(book.use()).toEqual({ size: 1, leased: 1, free: 0 });
  }));
