import { cloudConformance } from "@cocoon-net/cloud-testkit/conformance";
import { VolcengineWorld } from "./volcengine-world.ts";

cloudConformance({
  name: "volcengine",
  open: () => VolcengineWorld.open(),
  openLimited: (budget) => VolcengineWorld.openLimited(budget),
});
