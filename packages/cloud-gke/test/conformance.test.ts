import { cloudConformance } from "@cocoon-net/cloud-testkit/conformance";
import { CloudBudget } from "@cocoon-net/core";
import { GkeWorld, generousBudget } from "./gke-world.ts";

/** The account allows 8 reads and 4 writes in each half second. Twice as much room as this budget takes of it. */
const limits = { readsPerMinute: 8, writesPerMinute: 4, minuteMs: 500 };
const fitting = {
  read: { perSecond: 6, burst: 1, perMinute: undefined },
  write: { perSecond: 2, burst: 1, perMinute: undefined },
};

cloudConformance({
  name: "gke",
  open: () => GkeWorld.open(),
  openLimited: (budget) =>
    GkeWorld.open(
      { limits },
      budget === "fitting" ? new CloudBudget({ rates: { gke: fitting } }) : generousBudget(),
    ),
});
