// LossdYAML: a YAML document as a tree of texts, lists and mappings, by libyaml. It knows no file
// and no setting, says where a fault is, and takes no more memory than a document's bytes and its
// limits allow.

/// A value of a document, and where it stands.
public struct YAMLNode: Sendable {
  /// What kinds of values there are.
  public indirect enum Content: Sendable {
    /// A text as it is written, `5` as well as `"5"`: who reads it knows what it should be.
    case scalar(String)
    /// `[a, b]`, or lines that begin with `- `.
    case list([YAMLNode])
    /// `key: value` lines, in their order; no two keys are the same text.
    case mapping([(key: YAMLKey, value: YAMLNode)])
  }

  /// The value.
  public let content: Content
  /// The line on which it begins, counted from 1; an alias has its anchor's.
  public let line: Int
  /// Whether nothing is written there, or a plain `~` or `null`.
  public let isNull: Bool
}

/// A key of a mapping, and where it stands.
public struct YAMLKey: Sendable {
  /// The key.
  public let text: String
  /// The line on which it begins, counted from 1.
  public let line: Int
}

/// What a document may have at most.
public struct YAMLLimits: Sendable {
  /// Aliases (`*NAME`). One does not copy what it stands for.
  public var aliasesMax: Int
  /// Lists and mappings within one another.
  public var depthMax: Int
  /// Keys, texts, lists, mappings and aliases in all.
  public var nodesMax: Int

  /// Limits of a document.
  public init(aliasesMax: Int, depthMax: Int, nodesMax: Int) {
    self.aliasesMax = aliasesMax
    self.depthMax = depthMax
    self.nodesMax = nodesMax
  }
}

/// Why a document cannot be read.
public struct YAMLError: Error, Equatable, CustomStringConvertible {
  /// Counted from 1.
  public let line: Int
  /// What is wrong there; texts of the document are not in it, but a key, cut and escaped.
  public let text: String

  /// `line 3: did not find expected key`
  public var description: String { "line \(line): \(text)" }
}
