export { INSTRUCTIONS, toolDefinitions, type ToolDefinition } from './tool-list.ts'
