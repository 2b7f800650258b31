//! VMs: what was started, which processes it is, and how far its agent's events have been handled.

use sealtune_job::{Hex, JobId};
use sealtune_wire::v1::Transfer;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::{
    api::types::VmView,
    vm::{definition::VmDefinition, process::ProcessIdentity},
};

#[derive(Debug, Clone)]
pub(crate) struct VmRow {
    pub(crate) definition: VmDefinition,
    pub(crate) view: VmView,
    /// QEMU first, then its helper.
    pub(crate) processes: Vec<ProcessIdentity>,
    /// The last event of the agent that is on disk.
    pub(crate) acknowledged: u64,
    pub(crate) attempt: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct StreamRow {
    pub(crate) stream: Hex<16>,
    pub(crate) job: JobId,
    pub(crate) what: Transfer,
}

fn parse_row(row: &SqliteRow) -> Result<VmRow, StoreError> {
    let text = |name: &str| row.try_get::<String, _>(name);
    Ok(VmRow {
        definition: serde_json::from_str(&text("definition")?)?,
        view: serde_json::from_str(&text("view")?)?,
        processes: serde_json::from_str(&text("processes")?)?,
        acknowledged: row.try_get::<i64, _>("acknowledged")?.unsigned_abs(),
        attempt: u32::try_from(row.try_get::<i64, _>("attempt")?).unwrap_or(0),
    })
}

impl Store {
    /// Stores a VM before anything of it is started; its job is tied to it in the same step.
    pub(crate) async fn add_vm(
        &self,
        definition: &VmDefinition,
        view: &VmView,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT INTO vms (id, job, attempt, definition, view) VALUES (?, ?, ?, ?, ?)")
            .bind(&definition.id)
            .bind(definition.job.map(|job| job.to_string()))
            .bind(i64::from(attempt))
            .bind(serde_json::to_string(definition)?)
            .bind(serde_json::to_string(view)?)
            .execute(&mut *transaction)
            .await?;
        if let Some(job) = definition.job {
            sqlx::query(
                "UPDATE jobs SET vm = ?, vm_wanted = 0, generation = generation + 1 WHERE id = ?",
            )
            .bind(&definition.id)
            .bind(job.to_string())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn set_processes(
        &self,
        vm: &str,
        processes: &[ProcessIdentity],
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE vms SET processes = ? WHERE id = ?")
            .bind(serde_json::to_string(processes)?)
            .bind(vm)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_vm_view(&self, view: &VmView, open: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE vms SET view = ?, open = ? WHERE id = ?")
            .bind(serde_json::to_string(view)?)
            .bind(open)
            .bind(&view.vm)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// VMs that were not seen to end.
    pub(crate) async fn open_vms(&self) -> Result<Vec<VmRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM vms WHERE open = 1").fetch_all(&self.pool).await?;
        rows.iter().map(parse_row).collect()
    }

    pub(crate) async fn set_vm_definition(
        &self,
        definition: &VmDefinition,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE vms SET definition = ? WHERE id = ?")
            .bind(serde_json::to_string(definition)?)
            .bind(&definition.id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn vm_views(&self) -> Result<Vec<VmView>, StoreError> {
        let views: Vec<String> =
            sqlx::query_scalar("SELECT view FROM vms ORDER BY rowid").fetch_all(&self.pool).await?;
        views.iter().map(|view| Ok(serde_json::from_str(view)?)).collect()
    }

    /// Those that were not seen to end; the past costs nothing.
    pub(crate) async fn open_vm_views(&self) -> Result<Vec<VmView>, StoreError> {
        let views: Vec<String> =
            sqlx::query_scalar("SELECT view FROM vms WHERE open = 1 ORDER BY rowid")
                .fetch_all(&self.pool)
                .await?;
        views.iter().map(|view| Ok(serde_json::from_str(view)?)).collect()
    }

    pub(crate) async fn vm(&self, vm: &str) -> Result<VmRow, StoreError> {
        let row = sqlx::query("SELECT * FROM vms WHERE id = ?")
            .bind(vm)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::NotFound(format!("VM {vm}")))?;
        parse_row(&row)
    }

    /// Forgets a VM that has ended.
    pub(crate) async fn remove_vm(&self, vm: &str) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM vms WHERE id = ? AND open = 0")
            .bind(vm)
            .execute(&self.pool)
            .await?;
        Ok(removed.rows_affected() > 0)
    }

    /// The number of the next control connection: greater than every one before.
    pub(crate) async fn next_generation(&self, vm: &str) -> Result<u64, StoreError> {
        let generation: i64 = sqlx::query_scalar(
            "UPDATE vms SET generation = generation + 1 WHERE id = ? RETURNING generation",
        )
        .bind(vm)
        .fetch_one(&self.pool)
        .await?;
        Ok(generation.unsigned_abs())
    }

    pub(crate) async fn acknowledged(&self, vm: &str) -> Result<u64, StoreError> {
        Ok(self.vm(vm).await?.acknowledged)
    }

    /// The simulated TEE's RTMR3 events of a VM, JSON text.
    #[cfg(feature = "simulated-tee")]
    pub(crate) async fn rtmr3(&self, vm: &str) -> Result<String, StoreError> {
        let text = sqlx::query_scalar("SELECT rtmr3 FROM vms WHERE id = ?")
            .bind(vm)
            .fetch_one(&self.pool)
            .await?;
        Ok(text)
    }

    /// Stores the events of an extension, once for each request of the agent.
    #[cfg(feature = "simulated-tee")]
    pub(crate) async fn extend_rtmr3(
        &self,
        vm: &str,
        request: u64,
        events: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE vms SET rtmr3 = ?1, host_request = ?2 WHERE id = ?3 AND host_request < ?2",
        )
        .bind(events)
        .bind(request.cast_signed())
        .bind(vm)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Transfers that the agent wants and that have not completed.
    pub(crate) async fn open_streams(&self, vm: &str) -> Result<Vec<StreamRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM streams WHERE vm = ? AND done = 0")
            .bind(vm)
            .fetch_all(&self.pool)
            .await?;
        let mut streams = Vec::new();
        for row in rows {
            let (id, job): (String, String) = (row.try_get("id")?, row.try_get("job")?);
            let what: String = row.try_get("what")?;
            if let (Ok(stream), Ok(job)) = (id.parse(), job.parse()) {
                streams.push(StreamRow { stream, job, what: serde_json::from_str(&what)? });
            }
        }
        Ok(streams)
    }

    pub(crate) async fn stream_done(&self, vm: &str, stream: &Hex<16>) -> Result<(), StoreError> {
        sqlx::query("UPDATE streams SET done = 1 WHERE vm = ? AND id = ?")
            .bind(vm)
            .bind(stream.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
