import { cloudConformance } from "@cocoon-net/cloud-testkit/conformance";
import { GkeWorld } from "./gke-world.ts";

cloudConformance({ name: "gke", open: () => GkeWorld.open() });
