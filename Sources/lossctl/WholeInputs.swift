import LossdClient
import LossdFiles
import LossdTensor

/// Inputs that every batch has whole: big ones lie in memory that the daemon shares, which is made
/// anew where the connection that it was of has ended.
actor WholeInputs {
  typealias Batch = [(name: String, tensor: Tensor)]

  private let client: Client
  private let retry: Retry
  private let files: [BatchRule.Input]
  /// What comes from no file.
  private let others: Batch
  private var making: Task<Batch, any Error>?

  init(_ client: Client, _ retry: Retry, _ files: [BatchRule.Input], others: Batch = []) {
    (self.client, self.retry, self.files, self.others) = (client, retry, files, others)
  }

  func tensors() async throws -> Batch {
    if let making {
      if let batch = try? await making.value, batch.allSatisfy(\.tensor.isWithinReach) {
        return batch
      }
      // Of all that wait here the first begins, and the others find what it has begun.
      if self.making == making { self.making = nil }
    }
    let task =
      making
      ?? Task { [client, retry, files, others] in
        var batch: Batch = []
        for (name, stored) in files {
          batch.append((name, try await stored.shared(with: client, retry)))
        }
        return batch + others
      }
    making = task
    return try await task.value
  }
}
