//! The texts of the page that shows how far a deletion of personal data is.

use super::catalogue::catalogue;

catalogue! {
    deletion_not_read()
        en "The state of this deletion cannot be read at the moment. The deletion goes on by itself."
        de "Der Stand dieser Löschung kann im Moment nicht gelesen werden. Die Löschung läuft von selbst weiter."
        fr "L’état de cette suppression ne peut pas être lu pour le moment. La suppression continue d’elle-même."
        es "En este momento no se puede consultar el estado de esta eliminación. La eliminación continúa por sí sola."
        pt "No momento, não é possível consultar o andamento desta exclusão. A exclusão continua automaticamente."

    title_unknown_code()
        en "Unknown confirmation code"
        de "Unbekannter Bestätigungscode"
        fr "Code de confirmation inconnu"
        es "Código de confirmación desconocido"
        pt "Código de confirmação desconhecido"

    unknown_code()
        en "This confirmation code is not known here. Check that it is complete."
        de "Dieser Bestätigungscode ist hier nicht bekannt. Prüfen Sie, ob er vollständig ist."
        fr "Ce code de confirmation n’est pas connu ici. Vérifiez qu’il est complet."
        es "Este código de confirmación no se conoce aquí. Compruebe que esté completo."
        pt "Este código de confirmação não é conhecido aqui. Verifique se ele está completo."

    title_nothing_deleted()
        en "Nothing was deleted"
        de "Es wurde nichts gelöscht"
        fr "Rien n’a été supprimé"
        es "No se ha eliminado nada"
        pt "Nada foi excluído"

    title_deleted()
        en "Your data is deleted"
        de "Ihre Daten sind gelöscht"
        fr "Vos données sont supprimées"
        es "Sus datos se han eliminado"
        pt "Seus dados foram excluídos"

    title_earlier_deleted()
        en "Your earlier data is deleted"
        de "Ihre früheren Daten sind gelöscht"
        fr "Vos données antérieures sont supprimées"
        es "Sus datos anteriores se han eliminado"
        pt "Seus dados anteriores foram excluídos"

    title_deleting()
        en "Your data is being deleted"
        de "Ihre Daten werden gelöscht"
        fr "Vos données sont en cours de suppression"
        es "Sus datos se están eliminando"
        pt "Seus dados estão sendo excluídos"

    title_deleting_earlier()
        en "Your earlier data is being deleted"
        de "Ihre früheren Daten werden gelöscht"
        fr "Vos données antérieures sont en cours de suppression"
        es "Sus datos anteriores se están eliminando"
        pt "Seus dados anteriores estão sendo excluídos"

    all_is_gone()
        en "Access tokens, the record of your login and the stored page data are gone, from our own files as well."
        de "Zugriffstoken, der Vermerk über Ihre Anmeldung und die gespeicherten Seitendaten sind gelöscht, auch aus \
            unseren eigenen Dateien."
        fr "Les jetons d’accès, la trace de votre connexion et les données de Page enregistrées sont effacés, y compris \
            de nos propres fichiers."
        es "Los tokens de acceso, el registro de su inicio de sesión y los datos de páginas guardados se han borrado, \
            también de nuestros propios archivos."
        pt "Os tokens de acesso, o registro do seu login e os dados de Páginas salvos foram apagados, inclusive dos \
            nossos próprios arquivos."

    being_erased()
        en "The stored page data is gone. Access tokens and the record of your login are not used any more; what is left \
            of them in our own files is being erased. This finishes by itself, within minutes as a rule; look again \
            later."
        de "Die gespeicherten Seitendaten sind gelöscht. Zugriffstoken und der Vermerk über Ihre Anmeldung werden nicht \
            mehr verwendet; was davon in unseren eigenen Dateien übrig ist, wird gerade gelöscht. Das geschieht von \
            selbst, in der Regel innerhalb von Minuten; sehen Sie später noch einmal nach."
        fr "Les données de Page enregistrées sont effacées. Les jetons d’accès et la trace de votre connexion ne sont \
            plus utilisés\u{a0}; ce qu’il en reste dans nos propres fichiers est en cours d’effacement. Cela se termine \
            de soi-même, en général en quelques minutes\u{a0}; revenez plus tard."
        es "Los datos de páginas guardados se han borrado. Los tokens de acceso y el registro de su inicio de sesión ya \
            no se utilizan; lo que queda de ellos en nuestros propios archivos se está borrando. Esto termina por sí \
            solo, por lo general en unos minutos; vuelva a consultarlo más tarde."
        pt "Os dados de Páginas salvos foram apagados. Os tokens de acesso e o registro do seu login não são mais \
            usados; o que resta deles em nossos próprios arquivos está sendo apagado. Isso termina automaticamente, em \
            geral em alguns minutos; consulte novamente mais tarde."

    still_to_delete(open, all)
        en "Access tokens and the record of your login are not used any more. Stored page data still to be deleted: \
            {open} of {all}; what is left of all of it in our own files is erased after that. This finishes by itself; \
            look again later."
        de "Zugriffstoken und der Vermerk über Ihre Anmeldung werden nicht mehr verwendet. Noch zu löschende \
            gespeicherte Seitendaten: {open} von {all}; was davon in unseren eigenen Dateien übrig ist, wird danach \
            gelöscht. Das geschieht von selbst; sehen Sie später noch einmal nach."
        fr "Les jetons d’accès et la trace de votre connexion ne sont plus utilisés. Données de Page encore à \
            supprimer\u{a0}: {open} sur {all}\u{a0}; ce qu’il en reste dans nos propres fichiers est effacé ensuite. \
            Cela se termine de soi-même\u{a0}; revenez plus tard."
        es "Los tokens de acceso y el registro de su inicio de sesión ya no se utilizan. Datos de páginas guardados que \
            faltan por eliminar: {open} de {all}; lo que quede de todo ello en nuestros propios archivos se borra \
            después. Esto termina por sí solo; vuelva a consultarlo más tarde."
        pt "Os tokens de acesso e o registro do seu login não são mais usados. Dados de Páginas salvos que ainda faltam \
            excluir: {open} de {all}; o que restar disso em nossos próprios arquivos é apagado em seguida. Isso termina \
            automaticamente; consulte novamente mais tarde."

    older_versions()
        en "The storage would not tell whether it keeps older versions of that page data; if it does, they stay until \
            they expire there or the operator removes them."
        de "Der Speicherdienst hat nicht mitgeteilt, ob er ältere Versionen dieser Seitendaten aufbewahrt; falls ja, \
            bleiben sie, bis sie dort ablaufen oder der Betreiber sie entfernt."
        fr "Le service de stockage n’a pas indiqué s’il conserve d’anciennes versions de ces données de Page\u{a0}; si \
            c’est le cas, elles y restent jusqu’à leur expiration ou jusqu’à ce que l’exploitant les supprime."
        es "El servicio de almacenamiento no indicó si conserva versiones anteriores de esos datos de páginas; si es \
            así, permanecen hasta que caduquen allí o el operador las elimine."
        pt "O serviço de armazenamento não informou se guarda versões anteriores desses dados de Páginas; se guardar, \
            elas permanecem até expirarem lá ou até que o operador as remova."

    asked_for(at)
        en "Asked for on {at}."
        de "Beantragt am {at}."
        fr "Demandé le {at}."
        es "Solicitado el {at}."
        pt "Solicitado em {at}."

    done(at)
        en "Done on {at}."
        de "Erledigt am {at}."
        fr "Terminé le {at}."
        es "Completado el {at}."
        pt "Concluído em {at}."

    written_before_the_login(at)
        en "Facebook wrote this request on {at}, and you logged in again after that."
        de "Facebook hat diesen Antrag am {at} ausgestellt, und danach haben Sie sich erneut angemeldet."
        fr "Facebook a émis cette demande le {at}, et vous vous êtes reconnecté ensuite."
        es "Facebook emitió esta solicitud el {at}, y después usted volvió a iniciar sesión."
        pt "O Facebook emitiu esta solicitação em {at}, e depois disso você fez login de novo."

    login_stays()
        en "That login stays, because the request is older."
        de "Diese Anmeldung bleibt bestehen, weil der Antrag älter ist."
        fr "Cette connexion est conservée, car la demande est plus ancienne."
        es "Ese inicio de sesión se conserva porque la solicitud es anterior."
        pt "Esse login permanece, porque a solicitação é mais antiga."

    login_and_one_page_stay()
        en "That login and 1 linked page stay, because the request is older."
        de "Diese Anmeldung und 1 verknüpfte Seite bleiben bestehen, weil der Antrag älter ist."
        fr "Cette connexion et 1\u{a0}Page associée sont conservées, car la demande est plus ancienne."
        es "Ese inicio de sesión y 1 página vinculada se conservan porque la solicitud es anterior."
        pt "Esse login e 1 Página vinculada permanecem, porque a solicitação é mais antiga."

    login_and_pages_stay(count)
        en "That login and {count} linked pages stay, because the request is older."
        de "Diese Anmeldung und {count} verknüpfte Seiten bleiben bestehen, weil der Antrag älter ist."
        fr "Cette connexion et {count}\u{a0}Pages associées sont conservées, car la demande est plus ancienne."
        es "Ese inicio de sesión y {count} páginas vinculadas se conservan porque la solicitud es anterior."
        pt "Esse login e {count} Páginas vinculadas permanecem, porque a solicitação é mais antiga."

    ask_once_more()
        en "To have them deleted too, remove the app on Facebook once more and ask for deletion again."
        de "Um auch das löschen zu lassen, entfernen Sie die App bei Facebook noch einmal und beantragen Sie die \
            Löschung erneut."
        fr "Pour tout faire supprimer, retirez encore une fois l’application sur Facebook et demandez à nouveau la \
            suppression."
        es "Para que también se eliminen, quite la aplicación en Facebook una vez más y vuelva a solicitar la \
            eliminación."
        pt "Para que isso também seja excluído, remova o aplicativo no Facebook mais uma vez e peça a exclusão \
            novamente."
}
