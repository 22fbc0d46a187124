export { INSTRUCTIONS, toolDefinitions, type ToolDefinition } from './tool-list.ts'
export { serve, type ServeOptions, type Serving } from './serve.ts'
export { install, type Installed, type InstallOptions } from './install/install.ts'
export { INSTALL_CLIENTS, type InstallClient, type InstallScope } from './install/clients.ts'
