export { INSTRUCTIONS, toolDefinitions, type ToolDefinition } from './tool-list.ts'
export { serve, type ServeOptions, type Serving } from './serve.ts'
