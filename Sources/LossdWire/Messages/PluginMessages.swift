import CLossdProto
import LossdTensor

/// A plugin that is loaded, or a file that was refused.
public struct PluginMessage: Sendable, Equatable {
  public var name: String
  public var version: String
  /// Empty: a part of the daemon.
  public var file: String
  public var functions: [String]
  /// `none`: in the daemon; `process`: in processes of its own.
  public var isolation = "none"
  /// `serving`, `restarting`, `set aside`, `pinned` or `refused`.
  public var state = "serving"
  /// Processes that were started again after one had died.
  public var restarts: UInt32 = 0
  /// Why the last one had, or why it was refused.
  public var lastReason = ""
  /// Process ids.
  public var processes: [Int32] = []
  /// When its file was loaded, or first refused as it is: milliseconds since 1970; 0: not known.
  public var since: Int64 = 0

  public init(name: String, version: String, file: String, functions: [String]) {
    self.name = name
    self.version = version
    self.file = file
    self.functions = functions
  }

  init(_ raw: Lossd__V1__Plugin) {
    self.init(
      name: textString(raw.name), version: textString(raw.version), file: textString(raw.file),
      functions: (0..<raw.n_functions).map { textString(raw.functions?[$0]) })
    isolation = textString(raw.isolation)
    state = textString(raw.state)
    restarts = raw.restarts
    lastReason = textString(raw.last_reason)
    processes = (0..<raw.n_processes).map { raw.processes?[$0] ?? 0 }
    since = raw.since_unix_ms
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Plugin> {
    let raw = arena.make(lossd__v1__plugin__init)
    raw.pointee.name = arena.text(name)
    raw.pointee.version = arena.text(version)
    raw.pointee.file = arena.text(file)
    raw.pointee.n_functions = functions.count
    raw.pointee.functions = arena.list(functions.count) { arena.text(functions[$0]) }
    raw.pointee.isolation = arena.text(isolation)
    raw.pointee.state = arena.text(state)
    raw.pointee.restarts = restarts
    raw.pointee.last_reason = arena.text(lastReason)
    raw.pointee.n_processes = processes.count
    let ids = arena.array(of: Int32.self, count: processes.count)
    for (index, process) in processes.enumerated() { ids[index] = process }
    raw.pointee.processes = ids
    raw.pointee.since_unix_ms = since
    return raw
  }
}

/// What the PluginHost service answers.
public struct PluginsResponse: Sendable, Equatable {
  /// All plugins and refused files to a list, the one concerned to a load or reload.
  public var plugins: [PluginMessage]
  /// To a list: the folders that plugins are loaded from.
  public var folders: [String]

  public init(plugins: [PluginMessage], folders: [String] = []) {
    self.plugins = plugins
    self.folders = folders
  }
}

/// What the PluginHost service is asked.
public enum PluginRequest: Sendable, Equatable {
  case list
  /// A file's name inside of the configured folders, and `none`, `process` or nothing: as the
  /// settings say.
  case load(String, isolation: String = "")
  /// A plugin's name, or its file's.
  case reload(String)
  case unload(String)
}

extension PluginRequest {
  public static func decodeList(
    _ bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) -> PluginRequest {
    _ = try arena.decode(lossd__v1__list_plugins_request__init, bytes)
    return .list
  }

  public static func decodeLoad(
    _ bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) -> PluginRequest {
    let raw = try arena.decode(lossd__v1__load_plugin_request__init, bytes).pointee
    return .load(textString(raw.file), isolation: textString(raw.isolation))
  }

  public static func decodeReload(
    _ bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) -> PluginRequest {
    .reload(
      textString(try arena.decode(lossd__v1__reload_plugin_request__init, bytes).pointee.name))
  }

  public static func decodeUnload(
    _ bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) -> PluginRequest {
    .unload(
      textString(try arena.decode(lossd__v1__unload_plugin_request__init, bytes).pointee.name))
  }
}

extension OutputBuffer {
  /// The request as a MESSAGE with END_STREAM.
  public func encodeFrame(plugins request: PluginRequest, stream: UInt32) {
    defer { scratch.reset() }
    let header = FrameHeader(type: .message, streamID: stream, flags: .endStream)
    switch request {
    case .list: appendFrame(header)
    case .load(let file, let isolation):
      let raw = scratch.make(lossd__v1__load_plugin_request__init)
      raw.pointee.file = scratch.text(file)
      raw.pointee.isolation = scratch.text(isolation)
      appendFrame(header, packing: raw)
    case .reload(let name):
      let raw = scratch.make(lossd__v1__reload_plugin_request__init)
      raw.pointee.name = scratch.text(name)
      appendFrame(header, packing: raw)
    case .unload(let name):
      let raw = scratch.make(lossd__v1__unload_plugin_request__init)
      raw.pointee.name = scratch.text(name)
      appendFrame(header, packing: raw)
    }
  }

  /// The response to a request: all plugins to a list, the one to a load or reload, nothing to an
  /// unload.
  public func encodeFrame(
    plugins response: PluginsResponse, answering request: PluginRequest, stream: UInt32,
    maxMessageBytes: UInt32
  ) throws(StatusError) {
    defer { scratch.reset() }
    let header = FrameHeader(type: .message, streamID: stream, flags: .endStream)
    switch request {
    case .list: try appendFrame(header, packing: buildList(response), atMost: maxMessageBytes)
    case .load, .reload:
      try appendFrame(header, packing: buildOne(response), atMost: maxMessageBytes)
    case .unload: appendFrame(header)
    }
  }

  /// The message alone, for transports with frames of their own.
  public func encodeMessage(plugins response: PluginsResponse, answering request: PluginRequest) {
    defer { scratch.reset() }
    switch request {
    case .list: appendMessage(buildList(response))
    case .load, .reload: appendMessage(buildOne(response))
    case .unload: break
    }
  }

  private func buildList(
    _ response: PluginsResponse
  ) -> UnsafeMutablePointer<Lossd__V1__ListPluginsResponse> {
    let (plugins, folders) = (response.plugins, response.folders)
    let raw = scratch.make(lossd__v1__list_plugins_response__init)
    raw.pointee.n_plugins = plugins.count
    raw.pointee.plugins = scratch.list(plugins.count) { plugins[$0].build(scratch) }
    raw.pointee.n_folders = folders.count
    raw.pointee.folders = scratch.list(folders.count) { scratch.text(folders[$0]) }
    return raw
  }

  /// Both responses, to a load and to a reload, have the plugin in the same field.
  private func buildOne(
    _ response: PluginsResponse
  ) -> UnsafeMutablePointer<Lossd__V1__LoadPluginResponse> {
    let raw = scratch.make(lossd__v1__load_plugin_response__init)
    raw.pointee.plugin = response.plugins.first?.build(scratch)
    return raw
  }
}

/// What a ListPlugins, LoadPlugin or ReloadPlugin answered.
public func decodePlugins(
  _ bytes: UnsafeRawBufferPointer, answering request: PluginRequest, in arena: MessageArena
) throws(StatusError) -> PluginsResponse {
  switch request {
  case .list:
    let raw = try arena.decode(lossd__v1__list_plugins_response__init, bytes).pointee
    return PluginsResponse(
      plugins: mapList(raw.plugins, raw.n_plugins, PluginMessage.init),
      folders: (0..<raw.n_folders).map { textString(raw.folders?[$0]) })
  case .load, .reload:
    let raw = try arena.decode(lossd__v1__load_plugin_response__init, bytes).pointee
    return PluginsResponse(plugins: raw.plugin.map { [PluginMessage($0.pointee)] } ?? [])
  case .unload: return PluginsResponse(plugins: [])
  }
}
