import { UnavailableError } from "@cocoon-net/core";
import { expect, it } from "vitest";
import { storedLease, withBook } from "./support/builtin-book.ts";

// Guard: apps/agent/src/builtin-lease-book.ts, BuiltinLeaseBook.#server: there is nothing to be told that would end it.
it("a VM that is removed while the server is being replaced is not said to be, and can be a moment later", async () => {
  const mac = "02:00:00:00:00:01";
  const [asked, passed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const addRoute = (): Promise<void> => {
    asked.resolve();
    return passed.promise;
  };
  await withBook(async (book) => {
    const replaced = book.adopt(new Map([["10.7.0.3", storedLease(mac)]]));
    await asked.promise;
    await expect(book.removeMac(mac)).rejects.toBeInstanceOf(UnavailableError);
    await expect(book.removeVm("vm-1")).rejects.toThrow("VM vm-1 cannot be ended now");
    passed.resolve();
    await replaced;
    expect(book.leases().size).toBe(1);
    await book.removeMac(mac);
    expect(book.leases().size).toBe(0);
  }, addRoute);
});
