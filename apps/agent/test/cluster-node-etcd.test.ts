import { clusterNodeRules } from "./cluster-node-rules.ts";

clusterNodeRules("etcd");
