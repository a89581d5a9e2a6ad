import { clusterNodeRules } from "./cluster-node-rules.ts";

clusterNodeRules("redis");
