import LossdWire

/// The services of the daemon and their methods: a new method is an entry here, and a handler.
/// Services know calls, in values, and never how a session writes them.
struct ServiceTable {
  /// A method, and what makes a handler of its calls.
  struct Entry: Sendable {
    let path: StaticString
    var isStreaming = false
    var isEvaluating = false
    let makeHandler: @Sendable (CallLoop) -> CallHandler
  }

  private struct Service: Sendable {
    /// What the paths of its methods begin with.
    let prefix: StaticString
    /// Only administrators may call it.
    var isForAdmins = false
    let methods: [Entry]
  }

  private static let services = [
    Service(
      prefix: "/lossd.v1.Evaluator/",
      methods: [
        Entry(
          path: "/lossd.v1.Evaluator/Evaluate", isEvaluating: true,
          makeHandler: { EvaluationHandler($0) }),
        Entry(
          path: "/lossd.v1.Evaluator/EvaluateStream", isStreaming: true, isEvaluating: true,
          makeHandler: { EvaluationHandler($0) }),
        Entry(path: "/lossd.v1.Evaluator/ListFunctions", makeHandler: { ListFunctionsHandler($0) }),
      ]),
    Service(
      prefix: "/lossd.v1.Daemon/",
      methods: [Entry(path: "/lossd.v1.Daemon/GetStatus", makeHandler: { GetStatusHandler($0) })]),
    Service(
      prefix: "/lossd.v1.PluginHost/", isForAdmins: true,
      methods: [
        Entry(path: "/lossd.v1.PluginHost/ListPlugins") {
          PluginHandler($0, PluginRequest.decodeList)
        },
        Entry(path: "/lossd.v1.PluginHost/LoadPlugin") {
          PluginHandler($0, PluginRequest.decodeLoad)
        },
        Entry(path: "/lossd.v1.PluginHost/ReloadPlugin") {
          PluginHandler($0, PluginRequest.decodeReload)
        },
        Entry(path: "/lossd.v1.PluginHost/UnloadPlugin") {
          PluginHandler($0, PluginRequest.decodeUnload)
        },
      ]),
  ]

  /// All methods, by their numbers.
  private static let entries = services.flatMap(\.methods)

  /// The method of this path; nil: there is none. Does not allocate.
  static func method(_ path: UnsafeRawBufferPointer) -> Method? {
    for (number, entry) in entries.enumerated() where path.equals(entry.path) {
      return Method(
        number: number, path: entry.path, isStreaming: entry.isStreaming,
        isEvaluating: entry.isEvaluating)
    }
    return nil
  }

  /// Whether the path belongs to a service that answers administrators alone.
  static func isForAdmins(_ path: UnsafeRawBufferPointer) -> Bool {
    services.contains { $0.isForAdmins && path.hasPrefix($0.prefix) }
  }

  static func makeHandler(_ method: Method, _ context: CallLoop) -> CallHandler {
    entries[method.number].makeHandler(context)
  }
}
